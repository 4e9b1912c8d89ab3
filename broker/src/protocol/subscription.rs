//! What a subscription asks for.

use rumqttd::protocol::QoS;

/// What a subscription asks for (MQTT 5.0, section 3.8.3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The highest QoS to deliver at.
    pub qos: QoS,
    /// Whether the client's own publishes are left out (MQTT 5).
    pub no_local: bool,
    /// Whether the retain flag is passed on as published (MQTT 5).
    pub retain_as_published: bool,
    /// Its identifier (MQTT 5).
    pub id: Option<usize>,
}
