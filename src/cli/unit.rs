//! `unit`: what a service manager wants to read, so that what is installed is what was tested.

use super::args::Parsed;
use super::output::{Failure, print};

/// Where the program lies unless `--program` says it.
const PROGRAM: &str = "/usr/local/bin/oxios-edge";

/// The switches and what each prints; none prints the first.
const FORMS: &[(&str, &str)] = &[
    ("", include_str!("unit/systemd.service")),
    ("socket", include_str!("unit/systemd.socket")),
    ("openrc", include_str!("unit/openrc")),
    ("procd", include_str!("unit/procd")),
    ("container", include_str!("unit/container")),
];

/// Prints it.
pub(super) fn run(parsed: &Parsed) -> Result<(), Failure> {
    print(format_args!("{}", text(parsed)?));
    Ok(())
}

fn text(parsed: &Parsed) -> Result<String, Failure> {
    let mut asked = FORMS.iter().filter(|(switch, _)| !switch.is_empty() && parsed.has(switch));
    let form = match (asked.next(), asked.next()) {
        (None, _) => FORMS.first(),
        (one, None) => one,
        (Some((one, _)), Some((other, _))) => return Err(Failure::usage(format!("--{one} and --{other}: one at a time"))),
    };
    if let ("container", Some(_)) = (form.map_or("", |(switch, _)| switch), parsed.value("program")) {
        return Err(Failure::usage("--program: in a container the program is /oxios-edge"));
    }
    let program = parsed.value("program").unwrap_or(PROGRAM);
    // It stands unquoted in files of three languages.
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if !program.starts_with('/') || !program.chars().all(plain) {
        return Err(Failure::usage(format!("--program {program}: a path from the root is needed, of letters, digits and /._-+")));
    }
    Ok(form.map_or("", |(_, text)| *text).replace("{program}", program))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Invocation, parse};

    fn printed(line: &str) -> Result<String, Failure> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let Ok(Invocation::Run(parsed)) = parse(&args) else { panic!("{line}") };
        text(&parsed)
    }

    #[test]
    fn each_form_names_the_program() {
        for (line, expected) in [
            ("unit", "ExecStart=/usr/local/bin/oxios-edge serve"),
            ("unit --program /opt/ox", "ExecStart=/opt/ox serve"),
            ("unit --openrc --program /opt/ox", "command=/opt/ox\n"),
            ("unit --procd --program /opt/ox", "procd_set_param command /opt/ox serve"),
            ("unit --socket", "ListenStream=127.0.0.1:4200"),
            ("unit --container", "ENTRYPOINT [\"/oxios-edge\"]"),
        ] {
            let text = printed(line).unwrap();
            assert!(text.contains(expected) && !text.contains("{program}"), "{line}: {text}");
        }
    }

    #[test]
    fn what_would_say_something_else_in_a_unit_is_refused() {
        for line in [
            "unit --container --program /opt/ox",
            "unit --program ox",
            "unit --program /a%n",
            "unit --program /a;b",
            "unit --program /a$b",
            "unit --socket --procd",
        ] {
            assert_eq!(printed(line).unwrap_err().code, 2, "{line}");
        }
    }
}
