//! Whole-process benchmarks: the product against a baseline in the same run. `cargo bench` prints the tables;
//! `cargo bench -- --quick` runs everything once, tiny, to see that it works; a word picks the tables whose name contains it.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, clippy::panic, reason = "a bench that goes wrong stops")]

mod attackers;
mod audit;
mod bare;
mod first_token;
mod footprint;
mod load;
mod process;
mod requests;
mod strangers;
mod table;
mod turns;

/// A name and what prints its tables.
type Bench = (&'static str, fn(Size));

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
    if args.first().is_some_and(|arg| arg == bare::ARGUMENT) {
        return bare::serve();
    }
    if args.first().is_some_and(|arg| arg == attackers::ARGUMENT) {
        return attackers::serve(&args[1..]);
    }
    if args.first().is_some_and(|arg| arg == audit::ARGUMENT) {
        return audit::serve(&args[1..]);
    }
    let size = if args.iter().any(|arg| arg == "--quick") { Size::Quick } else { Size::Full };
    let words: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let benches: [Bench; 6] = [
        ("footprint", footprint::run),
        ("requests", requests::run),
        ("first_token", first_token::run),
        ("turns", turns::run),
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
