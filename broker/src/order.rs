//! The one order in which everything published is delivered: into rumqttd's router, and out of it.

#[cfg(test)]
mod crashes;
pub mod dispatcher;
pub mod router_link;
