//! `reload`: has the running broker read its rule file and certificates again and open its audit log again.

use super::GlobalArguments;
use super::failure::Failure;
use super::target::Target;
use crate::control::request::Request;

/// As SIGHUP, with an answer. A bad file changes nothing.
pub(super) fn run(global: GlobalArguments) -> Result<(), Failure> {
    Target::find(global)?.ask(&Request::Reload {}, |_| {})
}
