//! The help: keys as they are bound, and the commands.

use super::commands::COMMANDS;
use super::keys::{ACTIONS, Keys};
use super::theme::Theme;
use crate::store::SendState;

/// The text.
#[must_use]
pub fn help(keys: &Keys, theme: &Theme) -> String {
    let mut out = String::from("KEYS\n");
    for (action, name, _, about) in ACTIONS {
        let bound = keys.of(action).join(", ");
        out.push_str(&format!("  {bound:<24} {about}  [{name}]\n"));
    }
    out.push_str(
        "  up, down                 what you sent before\n  \
         ctrl-a, ctrl-e           to the beginning and the end of the line\n  \
         ctrl-w, -u, -k, -y       cut a word, up to here, from here on; put back\n\n\
         Rebind them in the configuration file, by the names in brackets.\n\nCOMMANDS\n",
    );
    for (_, name, arguments, _, about) in COMMANDS {
        let command = format!("/{name} {arguments}");
        out.push_str(&format!("  {command:<24} {about}\n"));
    }
    out.push_str("\nSIGNS\n");
    for (state, about) in [
        (
            SendState::Queued,
            "waits here, on disk, and goes when it can",
        ),
        (SendState::Sent, "the broker has it, sealed"),
        (SendState::Delivered, "they have it"),
        (SendState::Read, "they were shown it"),
        (SendState::Failed, "could not be sent: /retry or /drop"),
    ] {
        out.push_str(&format!("  {}  {about}\n", theme.state(state).0));
    }
    let verified = theme.sign("✓", "v");
    out.push_str(&format!(
        "  {verified} behind a name: verified   ?: not verified   +: new   !: decide first\n\n\
         WHAT VERIFYING MEANS\n{VERIFYING}\n"
    ));
    out
}

/// One screen that says it.
pub const VERIFYING: &str = "\
Messages are sealed to your contact's keys: broker, archive and everybody on the way see ciphertext. But whose keys are \
they? The broker hands them out, and one that lies could hand out its own, and read along.\n\
\n\
So make sure, once for each contact, over a way that the broker does not control:\n\
- Best before the first message: they give you their link (F5 shows it), and you add it (F3). Verified from the start.\n\
- Or afterwards: both of you open the same 60-digit number (F4), and compare it by phone or face to face, or scan the \
QR code.\n\
\n\
From then on, whoever comes with other keys in that name stands out: the conversation is blocked until you decide.";
