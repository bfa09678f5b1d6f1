//! What one more turn costs in conversations of every length.

use std::time::Instant;

use crate::Size;
use crate::counted::Counted;
use crate::fit::Series;
use crate::plot::Plot;
use crate::stored::Stored;
use crate::table::median;

/// What is said in each of them.
const CONTENT: &str = "What does a router do all day, and what does it keep of it?";

/// Time and bytes.
pub(crate) fn run(size: Size) -> Vec<Plot> {
    let more = size.pick(3, 40);
    let mut time = [
        Series::new("a further turn", 0.0),
        Series::new("the first turn after a start", 1.0),
        Series::new("the same, the projection is missing", 1.0),
        Series::new("stopping, the projection is behind", 1.0),
    ];
    let mut bytes =
        [Series::new("bytes of a further turn", 0.0), Series::new("bytes of the first turn where the projection is missing", 1.0)];
    for turns in size.pick(vec![10, 100], vec![10, 100, 1_000, 10_000, 100_000]) {
        // A home of its own: nothing of another length is in it.
        let stored = Stored::new("growth-turns");
        let id = stored.conversation(turns);
        let mut server = Counted::start(&stored.home);
        let missing = turn(&mut server, &id);
        let further: Vec<(f64, f64)> = (0..more).map(|_| turn(&mut server, &id)).collect();
        let begin = Instant::now();
        server.stop();
        let stopping = begin.elapsed().as_secs_f64() * 1e3;
        let mut server = Counted::start(&stored.home);
        let first = turn(&mut server, &id);
        server.stop();
        let (times, sizes): (Vec<f64>, Vec<f64>) = further.into_iter().unzip();
        for (series, cost) in time.iter_mut().zip([median(&times), first.0, missing.0, stopping]) {
            series.points.push((turns as f64, cost));
        }
        // The mean: what is written now and then is a part of each.
        for (series, cost) in bytes.iter_mut().zip([sizes.iter().sum::<f64>() / sizes.len() as f64, missing.1]) {
            series.points.push((turns as f64, cost));
        }
    }
    let plot = |name, title, unit, series| Plot { name, title, axes: ["turns in the conversation", unit], series };
    vec![
        plot("turn-time", "Time of a turn", "ms", time.into()),
        plot("turn-bytes", "Bytes written for a turn, pieces aside", "bytes", bytes.into()),
    ]
}

/// Milliseconds and bytes of one turn.
fn turn(server: &mut Counted, id: &str) -> (f64, f64) {
    let (begin, before) = (Instant::now(), server.written().0);
    server.turn(id, CONTENT);
    (begin.elapsed().as_secs_f64() * 1e3, (server.written().0 - before) as f64)
}
