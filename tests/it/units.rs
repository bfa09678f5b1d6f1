//! What `oxios-edge unit` prints is read by the programs that it is for, where they are.

use std::process::{Command, Output};

use crate::support::model::skip;
use crate::support::server::{BINARY, TempDir, command};

/// How exposed `systemd-analyze security` may find the service, in tenths of its 10. The README states it; versions differ a little.
const EXPOSURE_MAX: u32 = 15;

fn printed(args: &[&str]) -> String {
    let home = TempDir::new();
    let output = command(home.path()).arg("unit").args(args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Debian's package `systemd` brings it; it needs no running systemd.
fn analyze() -> Option<Command> {
    match Command::new("systemd-analyze").arg("--version").output() {
        Ok(output) if output.status.success() => Some(Command::new("systemd-analyze")),
        _ => {
            skip("units", "systemd-analyze");
            None
        }
    }
}

#[test]
fn the_units_of_systemd_are_verified_and_little_exposed() {
    let Some(mut verify) = analyze() else { return };
    let dir = TempDir::new();
    let (service, socket) = (dir.path().join("oxios-edge.service"), dir.path().join("oxios-edge.socket"));
    std::fs::write(&service, printed(&["--program", BINARY])).unwrap();
    std::fs::write(&socket, printed(&["--socket"])).unwrap();
    let output = verify.arg("verify").args(["--man=no", "--recursive-errors=no"]).args([&service, &socket]).output().unwrap();
    assert!(output.status.success() && said(&output).trim().is_empty(), "{}", said(&output));

    let Some(mut security) = analyze() else { return };
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let output = security.args(["security", "--offline=true", "--no-pager", &threshold]).arg(&service).output().unwrap();
    let said = said(&output);
    let overall = said.lines().find_map(|line| line.split_once("Overall exposure level").map(|(_, rest)| rest)).unwrap_or_default();
    println!("measured exposure of the service{overall}");
    assert!(output.status.success(), "{said}");
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let stated = format!("at most {}.{} of 10", EXPOSURE_MAX / 10, EXPOSURE_MAX % 10);
    assert!(readme.contains(&stated), "README.md does not state `{stated}`");
}

#[test]
fn the_scripts_of_openrc_and_procd_are_a_shells() {
    let dir = TempDir::new();
    for form in ["--openrc", "--procd"] {
        let path = dir.path().join(form);
        std::fs::write(&path, printed(&[form])).unwrap();
        let output = Command::new("sh").arg("-n").arg(&path).output().unwrap();
        assert!(output.status.success(), "{form}: {}", said(&output));
    }
}
