//! What one turn writes, in short and long conversations: the server in this process, over a disk that counts.

use crate::Size;
use crate::counted::Counted;
use crate::process::scratch;
use crate::table::print;

/// Prints the table.
pub(crate) fn run(size: Size) {
    let content = "What does a router do all day, and what does it keep of it? ".repeat(8);
    let lengths = size.pick([2, 10], [10, 10_000]);
    let mut rows = Vec::new();
    let mut first = None;
    for turns in lengths {
        let (bytes, syncs, text) = conversation(turns, &content);
        let per_turn = bytes / turns as f64;
        let first = *first.get_or_insert(per_turn);
        rows.push(vec![
            turns.to_string(),
            format!("{per_turn:.0}"),
            format!("{text:.0}"),
            format!("{:.2}", per_turn / text),
            format!("{:.2}", syncs / turns as f64),
            format!("{:.2}", per_turn / first),
        ]);
    }
    print(&["turns", "bytes/turn", "text/turn", "ratio", "syncs/turn", "against the first row"], &rows);
    println!(
        "\nPieces aside (they lie in a file that goes when the turn ends). Goal: at most 6 × the text + 1 KiB a record, + 64 KiB while the"
    );
    println!("projection is small; the long conversation at most 1.2 × the short one. Amortised, the shutdown's writes included.");
}

/// Bytes and syncs of a whole conversation, and the text of one turn.
fn conversation(turns: u64, content: &str) -> (f64, f64, f64) {
    let home = scratch("turns");
    let mut server = Counted::start(&home);
    let start = server.written();
    let (mut session, mut text) = (String::new(), 0);
    for _ in 0..turns {
        let turn = server.turn(&session, &format!("echo {content}"));
        (session, text) = (turn.session, turn.text);
    }
    let end = server.stop();
    let _ = std::fs::remove_dir_all(&home);
    ((end.0 - start.0) as f64, (end.1 - start.1) as f64, text as f64)
}
