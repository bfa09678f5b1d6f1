//! What one turn writes, in short and long conversations: the server in this process, over a disk that counts.

use crate::Size;
use crate::counted::{Counted, Written};
use crate::process::scratch;
use crate::table::print;

/// Prints the table.
pub(crate) fn run(size: Size) {
    let content = "What does a router do all day, and what does it keep of it? ".repeat(8);
    let (short, long) = size.pick((2, 10), (10, 10_000));
    let mut rows = Vec::new();
    let mut first = None;
    for (turns, sync_secs) in [(short, 0), (long, 0), (long, 5)] {
        let (written, text) = conversation(turns, &content, sync_secs);
        let each = |count: u64| count as f64 / turns as f64;
        let bytes = each(written.bytes);
        let first = *first.get_or_insert(bytes);
        rows.push(vec![
            turns.to_string(),
            sync_secs.to_string(),
            format!("{bytes:.0}"),
            format!("{:.0}", each(written.pieces)),
            format!("{text}"),
            format!("{:.2}", bytes / text as f64),
            format!("{:.3}", each(written.syncs)),
            format!("{:.2}", bytes / first),
        ]);
    }
    let head = ["turns", "sync_secs", "bytes/turn", "pieces, bytes/turn", "text/turn", "ratio", "syncs/turn", "against the first row"];
    print(&head, &rows);
    println!(
        "\nPieces lie in a file that goes when the turn ends, and are never synced. Goal for the rest: at most 6 × the text + 1 KiB a record, + 64 KiB while the"
    );
    println!("projection is small; the long conversation at most 1.2 × the short one. Amortised, the shutdown's writes included.");
}

/// What a whole conversation writes, and the text of one turn.
fn conversation(turns: u64, content: &str, sync_secs: u64) -> (Written, usize) {
    let home = scratch("turns");
    let mut server = Counted::start(&home, &format!("[session]\nsync_secs = {sync_secs}\n"));
    let start = server.written();
    let (mut session, mut text) = (String::new(), 0);
    for _ in 0..turns {
        let turn = server.turn(&session, &format!("echo {content}"));
        (session, text) = (turn.session, turn.text);
    }
    let end = server.stop();
    let _ = std::fs::remove_dir_all(&home);
    let written = Written { bytes: end.bytes - start.bytes, pieces: end.pieces - start.pieces, syncs: end.syncs - start.syncs };
    (written, text)
}
