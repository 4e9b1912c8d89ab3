//! Sealpost's MQTT broker.
#![forbid(unsafe_code)]

pub mod router_link;
