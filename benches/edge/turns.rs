//! What one turn writes, in short and long conversations, answered at once or streamed: the server in this process, over a disk that
//! counts.

use std::path::Path;
use std::time::Duration;

use crate::Size;
use crate::counted::{Counted, Written};
use crate::model::{Model, Speech};
use crate::process::scratch;
use crate::table::print;

/// A piece each so often: slower than pieces are joined, so that each is written alone.
const PIECE_EVERY: Duration = Duration::from_millis(25);

/// One conversation.
struct Case {
    name: &'static str,
    turns: u64,
    /// Of the configuration.
    session: &'static str,
    /// Of each answer; 0: the offline model echoes the message.
    pieces: usize,
}

/// What a whole conversation came to.
struct Came {
    written: Written,
    /// Bytes of message and answer of a turn.
    text: usize,
    /// Of the log, the first line aside.
    records: usize,
}

/// Prints the table.
pub(crate) fn run(size: Size) {
    let content = "What does a router do all day, and what does it keep of it? ".repeat(8);
    let (short, long, streamed, pieces) = size.pick((2, 10, 1, 3), (10, 10_000, 3, 300));
    let cases = [
        Case { name: "short", turns: short, session: "", pieces: 0 },
        Case { name: "long", turns: long, session: "", pieces: 0 },
        Case { name: "long, sync_secs = 5", turns: long, session: "sync_secs = 5", pieces: 0 },
        Case { name: "short, projection = lazy", turns: short, session: "projection = \"lazy\"", pieces: 0 },
        Case { name: "streamed", turns: streamed, session: "", pieces },
        Case { name: "streamed, both", turns: streamed, session: "sync_secs = 5\nprojection = \"lazy\"", pieces },
    ];
    let mut rows = Vec::new();
    let mut first = None;
    for case in &cases {
        let Came { written, text, records } = case.conversation(&content);
        let each = |count: u64| count as f64 / case.turns as f64;
        let bytes = each(written.bytes);
        let allowed = 6.0 * text as f64 + 1024.0 * records as f64 / case.turns as f64;
        let first = *first.get_or_insert(bytes);
        rows.push(vec![
            format!("{}: {} turns", case.name, case.turns),
            format!("{text}"),
            format!("{bytes:.0}"),
            format!("{allowed:.0}"),
            format!("{:.2}", bytes / text as f64),
            format!("{:.0}", each(written.pieces)),
            format!("{:.1}", each(written.pages) * 4.096),
            format!("{:.3}", each(written.syncs)),
            if case.pieces == 0 { format!("{:.2}", bytes / first) } else { "–".into() },
        ]);
    }
    print(&["a turn", "text, B", "written, B", "goal ≤", "ratio", "pieces, B", "pages, kB", "syncs", "to the first"], &rows);
    println!(
        "\nWritten: bytes given to the file system, those of pieces aside; the end of the server included. Goal: 6 × the text + 1 KiB a record, and"
    );
    println!(
        "64 KiB more while the projection is small; long at most 1.2 × short. Pieces lie in a file that goes when the turn ends, and are never synced."
    );
    println!(
        "Pages: 4 KiB pages that were touched since their file was last synced, pieces included: what a card may see, its file system's own aside."
    );
}

impl Case {
    fn conversation(&self, content: &str) -> Came {
        let home = scratch("turns");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let speech = Speech { streams: 1, pieces: self.pieces, every: PIECE_EVERY };
        let model = runtime.block_on(Model::start(speech));
        model.answer_at_once(usize::try_from(self.turns).unwrap());
        let (engine, say) = match self.pieces {
            0 => (String::new(), format!("echo {content}")),
            _ => {
                let base = &model.base;
                let engine = format!("[engine]\ndefault_model = \"openai/scripted\"\nbase_url = \"{base}\"\napi_key = \"none\"\n");
                (engine, content.to_owned())
            }
        };
        let mut server = Counted::start(&home, &format!("[session]\n{}\n{engine}", self.session));
        let start = server.written();
        let (mut session, mut text) = (String::new(), 0);
        for _ in 0..self.turns {
            let turn = server.turn(&session, &say);
            (session, text) = (turn.session, turn.text);
        }
        let written = server.stop() - start;
        let records = records(&home, &session);
        let _ = std::fs::remove_dir_all(&home);
        Came { written, text, records }
    }
}

/// Lines of a session's log behind the first.
fn records(home: &Path, session: &str) -> usize {
    let log = std::fs::read(home.join(format!("workspace/sessions/{session}.log"))).unwrap();
    log.iter().filter(|byte| **byte == b'\n').count() - 1
}
