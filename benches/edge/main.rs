//! Whole-process benchmarks: the product against a baseline in the same run. `cargo bench` prints the tables;
//! `cargo bench -- --quick` runs everything once, tiny, to see that it works; a word picks the tables whose name contains it.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, clippy::panic, reason = "a bench that goes wrong stops")]

mod attackers;
mod audit;
mod compare;
mod counted;
mod fanout;
mod fit;
mod footprint;
mod forward;
mod growth;
mod growth_conversations;
mod growth_stores;
mod held;
mod idle;
mod listing;
mod load;
mod model;
#[path = "../baselines/paths.rs"]
mod paths;
mod plot;
mod process;
mod requests;
#[path = "../baselines/serving.rs"]
mod serving;
mod sockets;
mod stored;
mod strangers;
mod streams;
mod table;
mod turns;

/// A name and what prints its tables.
type Bench = (&'static str, fn(Size));

/// An argument, and what this program is when it begins with it: a part of a bench in a process of its own.
type Part = (&'static str, fn(&[String]));

/// How much work a bench does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// Once, tiny: for tests.
    Quick,
    /// Enough to quote.
    Full,
}

impl Size {
    fn pick<T>(self, quick: T, full: T) -> T {
        if self == Self::Quick { quick } else { full }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let parts: [Part; 3] = [(attackers::ARGUMENT, attackers::serve), (audit::ARGUMENT, audit::serve), (forward::ARGUMENT, forward::serve)];
    if let Some((_, serve)) = parts.iter().find(|(argument, _)| args.first().is_some_and(|arg| arg == argument)) {
        return serve(&args[1..]);
    }
    let size = if args.iter().any(|arg| arg == "--quick") { Size::Quick } else { Size::Full };
    let words: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let benches: [Bench; 14] = [
        ("footprint", footprint::run),
        ("requests", requests::run),
        ("listing", listing::run),
        ("sockets", sockets::run),
        ("streams", streams::run),
        ("fanout", fanout::run),
        ("idle", idle::run),
        ("turns", turns::run),
        ("growth_conversations", |size| growth::run(size, growth_conversations::run)),
        ("growth_sessions", |size| growth::run(size, growth_stores::sessions)),
        ("growth_memories", |size| growth::run(size, growth_stores::memories)),
        ("growth_audit", |size| growth::run(size, growth_stores::audit)),
        ("strangers", strangers::run),
        ("audit", audit::run),
    ];
    for (name, run) in benches {
        if words.is_empty() || words.iter().any(|word| name.contains(word.as_str())) {
            println!("\n## {name}\n");
            run(size);
        }
    }
}
