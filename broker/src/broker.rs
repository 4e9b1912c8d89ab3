//! The broker as connections see it: everything that they share.

use std::sync::Arc;

use crate::admission::Admission;
use crate::board::Board;
use crate::dispatcher::Ticket;
use crate::permission::Permission;
use crate::router_link::Inlet;
use crate::settings::Settings;

/// What connections share.
#[derive(Debug)]
pub struct Broker {
    /// The settings.
    pub settings: Settings,
    /// Who is let in; nobody is asked when the broker is open.
    pub admission: Option<Admission>,
    /// What is permitted.
    pub permission: Permission,
    /// Sessions, subscriptions, retained messages.
    pub board: Arc<Board>,
    /// The way into the one order.
    pub inlet: Inlet<Ticket>,
}
