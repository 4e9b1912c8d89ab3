//! What MQTT says: packets, topic names and filters, and the outcomes that a publisher is told.

pub mod message;
pub mod outcome;
pub mod packet;
pub mod subscription;
pub mod topic_name;
mod validity;
