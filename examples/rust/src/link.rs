//! Connections, each with a token minted for it.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::ConnectReturnCode as Code;
use rumqttc::v5::{AsyncClient, ConnectionError, EventLoop, MqttOptions};
use sealpost_core::{MAX_ENVELOPE, Topic};

use crate::home::{Home, say};

/// Above what is ever asked of a connection before it is polled again.
const REQUESTS: usize = 1_024;
/// An envelope, and the rest of its packet.
const MAX_PACKET: u32 = MAX_ENVELOPE as u32 + 1_024;

/// Where to connect, and as whom when not by identity key.
pub(crate) struct Login {
    host: String,
    port: u16,
    password: Option<String>,
}

impl Login {
    pub(crate) fn new(url: &str, password_file: Option<&Path>) -> Result<Login, Box<dyn Error>> {
        let address = url
            .strip_prefix("mqtt://")
            .ok_or("the broker's URL begins with mqtt://")?;
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "1883"));
        let password = password_file.map(std::fs::read_to_string).transpose()?;
        Ok(Login {
            host: host.to_owned(),
            port: port.parse()?,
            password: password.map(|text| text.lines().next().unwrap_or_default().to_owned()),
        })
    }

    /// A new connection. `session`: for how many seconds the broker keeps it.
    pub(crate) fn connect(
        &self,
        home: &Home,
        client_id: &str,
        session: u32,
    ) -> (AsyncClient, EventLoop) {
        let mut options = MqttOptions::new(client_id, &self.host, self.port);
        let password = self
            .password
            .clone()
            .unwrap_or_else(|| home.token(client_id));
        options
            .set_credentials(home.user.as_str(), password)
            .set_clean_start(session == 0)
            .set_session_expiry_interval(Some(session))
            // Below what may wait of one sender: its bundle comes before there are too many (7.8).
            .set_receive_maximum(Some(16))
            .set_max_packet_size(Some(MAX_PACKET))
            .set_keep_alive(Duration::from_secs(30))
            .set_manual_acks(true);
        AsyncClient::new(options, REQUESTS)
    }
}

/// Publishes our bundle (6.4).
pub(crate) fn announce(client: &AsyncClient, home: &Home) -> Result<(), Box<dyn Error>> {
    let topic = Topic::Keys(home.user.clone()).to_string();
    Ok(client.try_publish(topic, QoS::AtLeastOnce, true, home.bundle.clone())?)
}

/// The time until the next attempt, which doubles up to a minute.
pub(crate) struct Patience(Duration);

impl Patience {
    pub(crate) const NEW: Patience = Patience(Duration::from_secs(1));

    /// Waits after a connection that ended so. An error when the next would end alike (10.2).
    pub(crate) async fn after(&mut self, error: ConnectionError) -> Result<(), Box<dyn Error>> {
        if let ConnectionError::ConnectionRefused(code) = &error
            && !matches!(
                code,
                Code::ServerUnavailable
                    | Code::ServerBusy
                    | Code::QuotaExceeded
                    | Code::ConnectionRateExceeded
            )
        {
            return Err(format!("the broker refuses the login: {code:?}").into());
        }
        say(format!("disconnected: {error}"));
        tokio::time::sleep(self.0.mul_f32(rand::random_range(0.5..1.0))).await;
        self.0 = (self.0 * 2).min(Duration::from_secs(60));
        Ok(())
    }
}
