//! Skills: made, switched off, installed, replaced, removed.

use std::path::Path;

use super::house::{HOME, House};
use super::ledger::Ledger;
use crate::base::digest::{hex, sha256};
use crate::sys::disk::{Disk, Open};

/// One after the other.
pub(super) fn all(house: &House, ledger: &Ledger) {
    let app = &house.app;
    let from = ledger.now();
    app.skills.create("brew", "Tea, properly.", "Boil.").unwrap();
    ledger.set(from, "skill/brew", Some("Ready Boil."));
    let from = ledger.now();
    app.skills.enable("brew", false).unwrap();
    ledger.set(from, "skill/brew", Some("Disabled Boil."));
    let source = Path::new(HOME).join("incoming.md");
    let install = |text: &str| {
        let text = format!("---\nname: knit\ndescription: Wool.\n---\n\n{text}");
        let file = house.disk.open(&source, Open::Append).unwrap();
        file.set_len(0).unwrap();
        file.append(text.as_bytes()).unwrap();
        app.skills.install(&source, &hex(&sha256(text.as_bytes()))).unwrap();
    };
    let from = ledger.now();
    install("One.");
    ledger.set(from, "skill/knit", Some("Disabled One."));
    let from = ledger.now();
    app.skills.enable("knit", true).unwrap();
    ledger.set(from, "skill/knit", Some("Ready One."));
    let from = ledger.now();
    install("Two.");
    // First it is off, then it is another one.
    ledger.set_via(from, "skill/knit", &[Some("Disabled One."), None], Some("Disabled Two."));
    let from = ledger.now();
    app.skills.remove("brew").unwrap();
    ledger.set(from, "skill/brew", None);
}
