//! The broker as connections see it: everything that they share.

use std::sync::Arc;

use crate::access::admission::{Admission, Principal};
use crate::access::audit::Audit;
use crate::access::permission::Permission;
use crate::access::registry::Registry;
use crate::delivery::board::Board;
use crate::delivery::wills::Wills;
use crate::order::dispatcher::Ticket;
use crate::order::router_link::Inlet;
use crate::settings::Settings;

/// What connections share.
#[derive(Debug)]
pub struct Broker {
    /// The settings.
    pub settings: Settings,
    /// Who is registered.
    pub registry: Arc<Registry>,
    /// Who is let in; nobody is asked when the broker is open.
    pub admission: Option<Admission>,
    /// What is permitted.
    pub permission: Permission,
    /// What is written down of who was let in and who was not.
    pub audit: Arc<Audit>,
    /// Sessions, subscriptions, retained messages.
    pub board: Arc<Board>,
    /// Wills of clients that have gone.
    pub wills: Wills<Principal>,
    /// The way into the one order.
    pub inlet: Inlet<Ticket>,
}
