//! How Sealpost's client and archiver reach a broker, and what MQTT they share.
//!
//! ```text
//!  Route ─► dial: TCP (direct, HTTP CONNECT, SOCKS5) ─► TLS ─► WebSocket ─► a stream and its channel binding
//!    └────► connect: CONNECT with a login made for that stream ─► Connection (packets in, packets out)
//! ```
//!
//! The packets are rumqttc's; its event loop is not used, for reasons that matter here. It wants the password before the
//! connection stands, while a login that is bound to a TLS channel can only be made after. It keeps the reason strings of
//! refusals to itself. It writes and flushes every acknowledgement by itself, where a group commit has thousands at once.
//! It cannot mark a publish as sent before (DUP). It hands out messages of a lost connection after the next one stands,
//! when acknowledging them would name other messages. And its decoder does not know short DISCONNECTs.
#![forbid(unsafe_code)]

mod advice;
mod backoff;
mod broker_password;
mod broker_url;
mod connection;
mod courier;
mod dial;
mod keep_alive;
mod packets;
mod proxy;
mod route;
mod route_options;
mod tls;
mod version;
mod websocket;
mod words;

pub use self::advice::{advice, advice_on_files, dial_advice};
pub use self::backoff::Backoff;
pub use self::broker_password::{BrokerPassword, BrokerPasswordError};
pub use self::broker_url::{BrokerUrl, BrokerUrlError, Transport};
pub use self::connection::{
    ConnectionError, Hello, Login, Welcome, check_granted, close, closed, goodbye_words,
    login_words, sign_in, unexpected,
};
pub use self::courier::{CourierError, Delivered, Parcel, courier_hello, publish_all};
pub use self::dial::{BoxStream, ChannelBinding, DialError, Dialled, Dialler, Dialling, Stream};
pub use self::keep_alive::KeepAlive;
pub use self::packets::{Incoming, Outgoing};
pub use self::proxy::{Proxy, ProxyError, ProxyUrlError};
pub use self::route::{Attempt, ConnectError, Connection, Route};
pub use self::route_options::{RouteOptions, RouteOptionsError};
pub use self::tls::{Certificate, ClientCertificate, TlsFiles, TlsFilesError, TlsProblem};
pub use self::version::Version;
pub use self::websocket::WebSocketProblem;
pub use self::words::Words;
