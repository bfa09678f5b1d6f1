//! The words after the program's name: one table of commands, and the parser made from it.

use crate::config::suggest::nearest;

/// One command.
#[derive(Debug)]
pub(super) struct Command {
    /// One or two words, for example `key create`.
    pub(super) name: &'static str,
    /// What follows the options, for the usage line; empty: nothing may follow.
    pub(super) words: &'static str,
    /// One line for the list of commands.
    pub(super) summary: &'static str,
    /// The rest of its help.
    pub(super) about: &'static str,
    /// Its options besides `--help`.
    pub(super) options: &'static [Opt],
}

/// One option of a command.
#[derive(Debug)]
pub(super) struct Opt {
    /// Its name without the dashes.
    pub(super) long: &'static str,
    /// What its value is; `None` for a switch.
    pub(super) value: Option<&'static str>,
    /// One line of help.
    pub(super) help: &'static str,
    /// It may be given more than once.
    pub(super) many: bool,
}

const HOME: Opt = Opt { long: "home", value: Some("DIR"), help: "the home (default: OXIOS_HOME, else ~/.oxios)", many: false };
const SET: Opt =
    Opt { long: "set", value: Some("KEY=VALUE"), help: "set one configuration key, for example --set gateway.port=0", many: true };
const LISTEN: Opt = Opt { long: "listen", value: Some("WHERE"), help: "ADDR:PORT (port 0: a free one) or unix:/path", many: false };
const MODEL: Opt = Opt { long: "model", value: Some("MODEL"), help: "offline, openai/<model> or anthropic/<model>", many: false };

/// Every command, in the order of the help.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "serve",
        words: "",
        summary: "start the gateway (what happens without a command, too)",
        about: "Creates the home at the first start, listens, and prints one line to standard output once it is ready:\n\
                `listening on http://127.0.0.1:4200`. Everything else goes to standard error.\n\
                SIGINT (Ctrl-C) and SIGTERM let running answers finish and exit with 0; a second one exits at once.",
        options: &[LISTEN, MODEL, HOME, SET],
    },
    Command {
        name: "ask",
        words: "TEXT… | -",
        summary: "send one message to the running gateway and stream the answer",
        about: "Only the answer goes to standard output. `-` reads the text from standard input.\n\
                Ctrl-C cancels the answer (what was written is kept in the session); a second one leaves at once.\n\
                The gateway is found by <home>/address, the key is OXIOS_API_KEY or <home>/token.",
        options: &[
            Opt { long: "session", value: Some("ID"), help: "continue this conversation (default: a new one)", many: false },
            Opt { long: "json", value: None, help: "print every frame as it comes, one JSON object a line", many: false },
            HOME,
        ],
    },
    Command {
        name: "key create",
        words: "[NAME]",
        summary: "make an API key; it is shown this once",
        about: "NAME is what it is recognised by in `key list`. Works while the gateway runs: it knows the key from its next\n\
                request on.",
        options: &[
            Opt {
                long: "scopes",
                value: Some("LIST"),
                help: "of read, chat, write, approve, admin, separated by commas (default: read,chat)",
                many: false,
            },
            Opt { long: "expires-in", value: Some("TIME"), help: "for example 90d, 12h, 30m (default: never)", many: false },
            Opt { long: "rate", value: Some("N"), help: "requests a minute (default: security.rate_limit_per_minute)", many: false },
            Opt {
                long: "tokens-per-day",
                value: Some("N"),
                help: "tokens of models a day, from midnight UTC (default: no limit)",
                many: false,
            },
            Opt { long: "tokens-per-month", value: Some("N"), help: "the same a month", many: false },
            Opt { long: "tokens-total", value: Some("N"), help: "the same for the whole life of the key", many: false },
            Opt {
                long: "owner",
                value: Some("WHO"),
                help: "`first` sees what the first key sees, `new` starts with nothing (default: first)",
                many: false,
            },
            HOME,
        ],
    },
    Command {
        name: "key list",
        words: "",
        summary: "list the keys: ids, names, scopes; never a value",
        about: "TOKENS is what was used at most of a key's budget: a running gateway sets a part of it aside ahead.",
        options: &[Opt { long: "json", value: None, help: "as JSON", many: false }, HOME],
    },
    Command {
        name: "key revoke",
        words: "ID",
        summary: "revoke a key; its open streams end within a second",
        about: "The id is in `oxios-edge key list`.",
        options: &[HOME],
    },
    Command {
        name: "key rotate",
        words: "ID",
        summary: "make a new key with the same rights; the old one goes on for a while",
        about: "The new key is shown once; where the old one lies in <home>/token, the new one takes its place there.",
        options: &[
            Opt {
                long: "overlap",
                value: Some("TIME"),
                help: "how long the old one goes on, for example 1h, 7d (default: not at all)",
                many: false,
            },
            HOME,
        ],
    },
    Command {
        name: "login-code",
        words: "",
        summary: "print a code that logs a browser in, once, within five minutes",
        about: "The gateway must be running. Its cookie has the rights of OXIOS_API_KEY or <home>/token.",
        options: &[HOME],
    },
    Command { name: "openapi", words: "", summary: "print the OpenAPI 3.1 document of the HTTP interface", about: "", options: &[] },
    Command {
        name: "skill list",
        words: "",
        summary: "list the skills: state, source, what they are for or what they need",
        about: "",
        options: &[Opt { long: "json", value: None, help: "as JSON", many: false }, HOME, SET],
    },
    Command {
        name: "skill install",
        words: "FILE",
        summary: "install a skill from a file whose SHA-256 is given; it is disabled until enabled",
        about: "FILE is a SKILL.md on this machine or, in a build with the feature `archives`, a gzipped tar (.tar.gz, .tgz, .skill)\n\
                with one SKILL.md at its top or in its one directory. Nothing is downloaded, and nothing in a skill is ever run.\n\
                An earlier install of the same name is replaced, all at once.",
        options: &[Opt { long: "sha256", value: Some("HEX"), help: "the digest that the file must have (needed)", many: false }, HOME, SET],
    },
    Command { name: "skill enable", words: "NAME", summary: "offer a skill to the model", about: "", options: &[HOME, SET] },
    Command { name: "skill disable", words: "NAME", summary: "keep a skill from the model", about: "", options: &[HOME, SET] },
    Command {
        name: "skill remove",
        words: "NAME",
        summary: "delete an installed or own skill with its files",
        about: "",
        options: &[HOME, SET],
    },
    Command {
        name: "web fetch",
        words: "",
        summary: "replace the web page by one of your own: an archive in the net whose SHA-256 is given",
        about: "Needs a build with the feature `archives`. The archive is a gzipped tar with an index.html at its top or in its one\n\
                directory; it goes to `web.dist`, else <home>/web/dist, all at once. Redirects are not followed. Nothing is\n\
                downloaded by itself unless `web.auto_update` says so. To have the embedded page again, delete that directory.",
        options: &[
            Opt { long: "url", value: Some("URL"), help: "where the archive is (needed)", many: false },
            Opt { long: "sha256", value: Some("HEX"), help: "the digest that it must have (needed)", many: false },
            HOME,
            SET,
        ],
    },
    Command {
        name: "audit verify",
        words: "[DIR]",
        summary: "find every edit, reordering and gap in the audit log; exit 1 if there is one",
        about: "Needs neither server nor network nor secret. DIR holds the segments; not given: those of the home.",
        options: &[
            Opt { long: "head", value: Some("N:HASH"), help: "a head that was noted before: finds a cut tail", many: false },
            Opt { long: "public-key", value: Some("FILE"), help: "what `audit key` printed: shows who signed", many: false },
            HOME,
        ],
    },
    Command {
        name: "audit export",
        words: "[DIR]",
        summary: "print every record of the audit log, one JSON object a line",
        about: "",
        options: &[HOME],
    },
    Command {
        name: "audit explain",
        words: "[DIR]",
        summary: "print every record about an id, or about a name that somebody chose",
        about: "Names stand in the log as HMACs under the home's secret, so this works on the machine itself only.",
        options: &[Opt { long: "name", value: Some("NAME"), help: "the id or name", many: false }, HOME],
    },
    Command { name: "audit key", words: "", summary: "print the public key that signs the audit log", about: "", options: &[HOME] },
    Command {
        name: "backup",
        words: "FILE",
        summary: "write everything of the home into one verified file, also while the gateway runs",
        about: "FILE is made new (0600), outside of the home: configuration, keys, secrets, sessions, memory, skills, files, audit\n\
                log. Whatever was acknowledged before it began is in it. It is read back and verified before it gets its name.\n\
                It is a tar with a manifest; whoever reads it has every key and conversation. Prints the audit log's head for\n\
                `audit verify`.",
        options: &[
            Opt { long: "replace", value: None, help: "FILE may be there: it is replaced once the new one is verified", many: false },
            HOME,
            SET,
        ],
    },
    Command {
        name: "restore",
        words: "FILE",
        summary: "verify a backup and make a home of it; --dry-run only verifies",
        about: "Every byte is verified, and whether this version reads what is in it as the server would. Then it goes to a home that\n\
                does not exist or is empty, whole or not at all. A server that goes on from a backup gives new records the numbers of\n\
                those that came behind it: stop the old one first.",
        options: &[
            Opt { long: "dry-run", value: None, help: "write nothing; say what is in it and what would be done", many: false },
            Opt { long: "anyway", value: None, help: "restore it also where this version would not read all of it", many: false },
            Opt { long: "workspace", value: Some("DIR"), help: "where a workspace goes that lay outside of its home", many: false },
            HOME,
            SET,
        ],
    },
    Command {
        name: "routes",
        words: "",
        summary: "print the table of HTTP routes",
        about: "",
        options: &[Opt { long: "markdown", value: None, help: "as a Markdown table", many: false }],
    },
    Command {
        name: "healthcheck",
        words: "",
        summary: "exit 0 if the gateway of this home answers, else 1",
        about: "For containers and supervisors without curl.",
        options: &[Opt { long: "ready", value: None, help: "ask whether it is ready, not only alive", many: false }, HOME],
    },
    Command {
        name: "unit",
        words: "",
        summary: "print the service for systemd, OpenRC or OpenWrt, or a container, hardened, ready to be installed",
        about: "Without a switch: the service unit of systemd. Nothing is installed; how to do that stands at its head.",
        options: &[
            Opt { long: "socket", value: None, help: "the socket unit of systemd, for activation", many: false },
            Opt { long: "openrc", value: None, help: "the script of OpenRC", many: false },
            Opt { long: "procd", value: None, help: "the script of OpenWrt", many: false },
            Opt { long: "container", value: None, help: "the file that Podman, Buildah or Docker builds a container from", many: false },
            Opt { long: "program", value: Some("PATH"), help: "where the binary lies (default: /usr/local/bin/oxios-edge)", many: false },
        ],
    },
    Command {
        name: "config show",
        words: "",
        summary: "print the effective configuration and where each value comes from",
        about: "As TOML; secrets are shown as ***.",
        options: &[HOME, SET],
    },
    Command {
        name: "config check",
        words: "",
        summary: "check the configuration; exit 2 and name the place if it is wrong",
        about: "",
        options: &[HOME, SET],
    },
    Command {
        name: "config default",
        words: "",
        summary: "print a config.toml with every key, its meaning and its default, all commented out",
        about: "A file to begin with; it means the same as no file.",
        options: &[],
    },
    Command { name: "config table", words: "", summary: "print every key with its meaning, as a Markdown table", about: "", options: &[] },
    Command {
        name: "doctor",
        words: "",
        summary: "try home, disk, clock, port, model and tool servers, and say what to do",
        about: "Really tries: writes a file, binds the port, asks the model, starts each tool server and ends it (within a minute).\n\
                Exits with 1 if something fails.",
        options: &[LISTEN, MODEL, HOME, SET],
    },
    Command { name: "version", words: "", summary: "print the version", about: "", options: &[] },
    Command { name: "help", words: "[COMMAND]", summary: "print this, or the help of one command", about: "", options: &[] },
];

/// What was asked for.
#[derive(Debug)]
pub(super) enum Invocation {
    /// A command with its options.
    Run(Parsed),
    /// Help for the commands whose names begin with these words; empty: for all.
    Help(String),
}

/// A command with its options.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) command: &'static Command,
    options: Vec<(&'static str, String)>,
    /// What is no option.
    pub(super) words: Vec<String>,
}

impl Parsed {
    /// The value of an option.
    pub(super) fn value(&self, long: &str) -> Option<&str> {
        self.values(long).next()
    }
    /// All values of an option.
    pub(super) fn values(&self, long: &str) -> impl Iterator<Item = &str> {
        self.options.iter().filter(move |(name, _)| *name == long).map(|(_, value)| value.as_str())
    }
    /// The switch is there.
    pub(super) fn has(&self, long: &str) -> bool {
        self.value(long).is_some()
    }
}

/// Reads the words after the program's name.
///
/// # Errors
/// A sentence that names what is wrong, with a suggestion where there is one.
pub(super) fn parse(args: &[String]) -> Result<Invocation, String> {
    let (command, rest) = command(args)?;
    let command = match command {
        Chosen::Help(words) => return Ok(Invocation::Help(words)),
        Chosen::Command(command) => command,
    };
    let mut parsed = Parsed { command, options: Vec::new(), words: Vec::new() };
    let mut rest = rest.iter();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            parsed.words.extend(rest.by_ref().cloned());
        } else if arg == "-h" || arg == "--help" {
            return Ok(Invocation::Help(command.name.to_owned()));
        } else if let Some(long) = arg.strip_prefix("--") {
            let (long, given) = long.split_once('=').map_or((long, None), |(long, value)| (long, Some(value.to_owned())));
            let option = command.options.iter().find(|option| option.long == long).ok_or_else(|| unknown_option(command, long))?;
            let value = match (option.value, given) {
                (None, None) => String::new(),
                (None, Some(_)) => return Err(format!("--{long} takes no value")),
                (Some(_), Some(value)) => value,
                (Some(what), None) => rest.next().cloned().ok_or_else(|| format!("--{long} needs a value: --{long} {what}"))?,
            };
            if !option.many && parsed.has(long) {
                return Err(format!("--{long} is given twice"));
            }
            parsed.options.push((option.long, value));
        } else if arg.len() > 1 && arg.starts_with('-') {
            return Err(format!("unknown option {arg}; options are written --name, and `--` goes before words that begin with a dash"));
        } else if command.words.is_empty() {
            return Err(format!("`{}` takes no further words, but there is {arg:?}", command.name));
        } else {
            parsed.words.push(arg.clone());
        }
    }
    Ok(Invocation::Run(parsed))
}

enum Chosen {
    Command(&'static Command),
    Help(String),
}

fn command(args: &[String]) -> Result<(Chosen, &[String]), String> {
    let named = |name: &str| COMMANDS.iter().find(|command| command.name == name).map(Chosen::Command);
    let (first, rest) = match args.split_first() {
        Some((first, rest)) if !first.starts_with('-') => (first.as_str(), rest),
        Some((first, _)) if first == "-h" || first == "--help" => return Ok((Chosen::Help(String::new()), &[])),
        Some((first, rest)) if first == "-V" || first == "--version" => return named("version").map(|c| (c, rest)).ok_or_else(String::new),
        _ => return named("serve").map(|c| (c, args)).ok_or_else(String::new),
    };
    if first == "help" {
        let words = rest.join(" ");
        let known = words.is_empty() || COMMANDS.iter().any(|c| c.name == words || c.name.starts_with(&format!("{words} ")));
        return if known { Ok((Chosen::Help(words), &[])) } else { Err(unknown_command(&words)) };
    }
    if let Some(command) = named(first) {
        return Ok((command, rest));
    }
    // A group such as `key`: the second word chooses.
    let group: Vec<&str> = COMMANDS.iter().filter_map(|c| c.name.strip_prefix(first)?.strip_prefix(' ')).collect();
    if group.is_empty() {
        return Err(unknown_command(first));
    }
    match rest.split_first() {
        None => Err(format!("`{first}` needs one more word: {}", group.join(", "))),
        Some((second, _)) if second == "-h" || second == "--help" => Ok((Chosen::Help(first.to_owned()), &[])),
        Some((second, rest)) => match named(&format!("{first} {second}")) {
            Some(command) => Ok((command, rest)),
            None => {
                let hint = nearest(second, group.iter().copied())
                    .map_or_else(|| format!("; there are {}", group.join(", ")), |near| format!("; did you mean `{first} {near}`?"));
                Err(format!("unknown command `{first} {second}`{hint}"))
            }
        },
    }
}

fn unknown_command(typed: &str) -> String {
    let names = COMMANDS.iter().flat_map(|c| [c.name, c.name.split(' ').next().unwrap_or(c.name)]);
    let hint = nearest(typed, names).map_or_else(|| "; `oxios-edge help` lists all".to_owned(), |near| format!("; did you mean `{near}`?"));
    format!("unknown command {typed:?}{hint}")
}

fn unknown_option(command: &Command, typed: &str) -> String {
    let near = nearest(typed, command.options.iter().map(|option| option.long));
    let hint = near.map_or_else(|| format!("; `oxios-edge {} --help` lists all", command.name), |near| format!("; did you mean --{near}?"));
    format!("unknown option --{typed}{hint}")
}

/// The help of the commands whose names begin with these words; of all where there are none.
pub(super) fn help(words: &str) -> String {
    let chosen: Vec<&Command> =
        COMMANDS.iter().filter(|c| words.is_empty() || c.name == words || c.name.starts_with(&format!("{words} "))).collect();
    match chosen.as_slice() {
        [command] => command_help(command),
        many => {
            let mut out = String::from("oxios-edge puts an AI agent behind HTTP.\n\nUsage: oxios-edge [COMMAND] [OPTIONS]\n\n");
            for command in many {
                out.push_str(&format!("  {:<14} {}\n", command.name, command.summary));
            }
            out.push_str("\n`oxios-edge COMMAND --help` says more. Exit codes: 0 fine, 1 failed, 2 wrong usage or configuration.\n");
            out
        }
    }
}

fn command_help(command: &Command) -> String {
    let words = if command.words.is_empty() { String::new() } else { format!(" {}", command.words) };
    let options = if command.options.is_empty() { "" } else { " [OPTIONS]" };
    let mut out = format!("oxios-edge {}: {}\n\nUsage: oxios-edge {}{options}{words}\n", command.name, command.summary, command.name);
    if !command.about.is_empty() {
        out.push_str(&format!("\n{}\n", command.about));
    }
    out.push('\n');
    for option in command.options {
        let name = option.value.map_or_else(|| format!("--{}", option.long), |value| format!("--{} {value}", option.long));
        out.push_str(&format!("  {name:<20} {}\n", option.help));
    }
    out.push_str(&format!("  {:<20} print this\n", "--help"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str) -> String {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match parse(&args) {
            Ok(Invocation::Run(p)) => format!("{} {:?} {:?}", p.command.name, p.options, p.words),
            Ok(Invocation::Help(words)) => format!("help {words:?}"),
            Err(text) => format!("error: {text}"),
        }
    }

    #[test]
    fn lines_are_understood() {
        for (line, expected) in [
            ("", "serve [] []"),
            ("serve --listen 127.0.0.1:0", r#"serve [("listen", "127.0.0.1:0")] []"#),
            ("--listen=unix:/x --home /h", r#"serve [("listen", "unix:/x"), ("home", "/h")] []"#),
            ("serve --set a.b=c --set d.e=f", r#"serve [("set", "a.b=c"), ("set", "d.e=f")] []"#),
            ("ask hello there --json", r#"ask [("json", "")] ["hello", "there"]"#),
            ("ask -", r#"ask [] ["-"]"#),
            ("ask -- --home", r#"ask [] ["--home"]"#),
            ("key create a --scopes read", r#"key create [("scopes", "read")] ["a"]"#),
            ("key revoke 1", r#"key revoke [] ["1"]"#),
            ("--version", "version [] []"),
            ("-V", "version [] []"),
            ("--help", r#"help """#),
            ("help ask", r#"help "ask""#),
            ("key --help", r#"help "key""#),
            ("doctor -h", r#"help "doctor""#),
            ("serv", "error: unknown command \"serv\"; did you mean `serve`?"),
            ("keys", "error: unknown command \"keys\"; did you mean `key`?"),
            ("frobnicate", "error: unknown command \"frobnicate\"; `oxios-edge help` lists all"),
            ("key", "error: `key` needs one more word: create, list, revoke, rotate"),
            ("key crate", "error: unknown command `key crate`; did you mean `key create`?"),
            ("serve --lisen x", "error: unknown option --lisen; did you mean --listen?"),
            ("routes --listen x", "error: unknown option --listen; `oxios-edge routes --help` lists all"),
            ("serve --listen", "error: --listen needs a value: --listen WHERE"),
            ("serve --home a --home b", "error: --home is given twice"),
            ("ask --json=1 x", "error: --json takes no value"),
            ("serve now", "error: `serve` takes no further words, but there is \"now\""),
            ("ask -x", "error: unknown option -x; options are written --name, and `--` goes before words that begin with a dash"),
        ] {
            assert_eq!(check(line), expected, "{line}");
        }
    }

    #[test]
    fn every_command_has_help() {
        for command in COMMANDS {
            let text = help(command.name);
            assert!(text.contains(command.summary) && text.contains("--help"), "{text}");
            assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
        }
        assert!(help("").contains("doctor") && help("key").contains("key revoke"));
    }
}
