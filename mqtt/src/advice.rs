//! What one can do when a broker cannot be reached. Client and archiver have the same flags for it, so they give the same
//! advice.

use std::io;

use rumqttc::v5::mqttbytes::v5::ConnectReturnCode;

use crate::broker_url::{BrokerUrl, Transport};
use crate::connection::ConnectionError;
use crate::dial::DialError;
use crate::proxy::ProxyError;
use crate::route::ConnectError;
use crate::tls::{TlsFilesError, TlsProblem};
use crate::websocket::WebSocketProblem;

const CLOCK: &str =
    "Is this machine's clock right? Otherwise the broker's operator has to renew the certificate.";
const LOGS: &str = "Look at the broker's log.";

/// What to do, where there is something to say.
#[must_use]
pub fn advice(error: &ConnectError) -> Option<String> {
    let broker = &error.last.broker;
    match &error.last.error {
        ConnectionError::Dial(error) => dial_advice(broker, error),
        ConnectionError::Tls(problem) => Some(of_tls(broker, problem)),
        ConnectionError::AnsweredInTls => Some(format!(
            "The port is for TLS: write {}://{} instead.",
            encrypted(broker.transport()).scheme(),
            broker.authority()
        )),
        ConnectionError::AnsweredInHttp => Some(format!(
            "If the broker serves MQTT over WebSocket there, write {}://{} and its path.",
            Transport::WebSocket.scheme(),
            broker.authority()
        )),
        ConnectionError::Ended | ConnectionError::Io(_) if !broker.transport().is_encrypted() => {
            Some(format!(
                "If the port is for TLS, write {}://{} instead. Otherwise look at the broker's log.",
                encrypted(broker.transport()).scheme(),
                broker.authority()
            ))
        }
        ConnectionError::TimedOut(_)
        | ConnectionError::Unexpected(_)
        | ConnectionError::Malformed(_) => {
            Some("Is that a broker, and does it speak MQTT 5 or 3.1.1?".to_owned())
        }
        ConnectionError::Refused {
            code:
                ConnectReturnCode::UnsupportedProtocolVersion
                | ConnectReturnCode::RefusedProtocolVersion,
            ..
        } => Some("The broker has to speak MQTT 5 or 3.1.1.".to_owned()),
        ConnectionError::Ended | ConnectionError::Io(_) => Some(LOGS.to_owned()),
        _ => None,
    }
}

fn encrypted(transport: Transport) -> Transport {
    if transport.is_websocket() {
        Transport::SecureWebSocket
    } else {
        Transport::Tls
    }
}

fn plain(transport: Transport) -> Transport {
    if transport.is_websocket() {
        Transport::WebSocket
    } else {
        Transport::Tcp
    }
}

/// What to do when a stream to this broker does not open, where there is something to say.
#[must_use]
pub fn dial_advice(broker: &BrokerUrl, error: &DialError) -> Option<String> {
    Some(match error {
        DialError::NoSuchHost { .. } => "Check the host's name and this machine's network.".to_owned(),
        DialError::Tcp(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return None;
        }
        DialError::Tcp(_) => "Check the host and this machine's network.".to_owned(),
        DialError::TimedOut(_) => {
            "Is the address right, and does a firewall let it through? Where only a proxy reaches out: --proxy URL.".to_owned()
        }
        DialError::Proxy(error) => of_proxy(error).to_owned(),
        DialError::Files(error) => advice_on_files(error).to_owned(),
        DialError::Tls(problem) => of_tls(broker, problem),
        DialError::WebSocket(problem) => of_websocket(broker, problem),
    })
}

fn of_proxy(error: &ProxyError) -> &'static str {
    match error {
        ProxyError::Unreachable { .. } => {
            "Check --proxy and the environment's HTTPS_PROXY and ALL_PROXY; `--proxy none` goes without."
        }
        ProxyError::Login { .. } => {
            "Put the login into the proxy's URL: http://USER:PASSWORD@HOST:PORT, in the environment or the configuration file."
        }
        ProxyError::Refused { .. } => {
            "Does the proxy allow this host and port? Many allow 443 only: wss://HOST may be the way. `--proxy none` goes without."
        }
        ProxyError::Kind { .. } => {
            "There are http:// and socks5:// proxies; `--proxy none` goes without."
        }
    }
}

/// What to do when the files for TLS are of no use.
#[must_use]
pub fn advice_on_files(error: &TlsFilesError) -> &'static str {
    match error {
        TlsFilesError::Io { .. } => "Check the path and who may read the file.",
        TlsFilesError::Mismatch { .. } => {
            "Give the key that was made with the certificate (--client-cert, --client-key)."
        }
        TlsFilesError::NoRoots => {
            "Install your system's list (the package ca-certificates), or give the broker's authority with --ca FILE."
        }
        TlsFilesError::TooLarge(_)
        | TlsFilesError::NoCertificate(_)
        | TlsFilesError::NoKey(_)
        | TlsFilesError::Invalid { .. } => {
            "The files are in PEM: --ca and --client-cert hold certificates, --client-key a private key without passphrase."
        }
    }
}

fn of_tls(broker: &BrokerUrl, problem: &TlsProblem) -> String {
    match problem {
        TlsProblem::UnknownAuthority => {
            "If the broker has an authority of its own, get its certificate (ca.pem) from the operator and give it with --ca \
             FILE. If it has a public one, somebody may be in between."
                .to_owned()
        }
        TlsProblem::WrongName(_) => {
            "Write the broker's name as the certificate has it, or ask the operator for a certificate with this name."
                .to_owned()
        }
        TlsProblem::Expired | TlsProblem::NotYetValid => CLOCK.to_owned(),
        TlsProblem::BadCertificate(_) | TlsProblem::TooOld(_) => {
            "Ask the broker's operator.".to_owned()
        }
        TlsProblem::ClientCertificateMissing => {
            "Give yours with --client-cert FILE --client-key FILE.".to_owned()
        }
        TlsProblem::ClientCertificateRefused(_) => {
            "Ask the operator for a certificate of the authority that the broker trusts (its `client_ca`), or leave \
             --client-cert out."
                .to_owned()
        }
        TlsProblem::NotTls | TlsProblem::Closed => format!(
            "Is the port one for TLS? If it is not, write {}://{} instead.",
            plain(broker.transport()).scheme(),
            broker.authority()
        ),
        TlsProblem::Io(_) | TlsProblem::Other(_) => LOGS.to_owned(),
    }
}

fn of_websocket(broker: &BrokerUrl, problem: &WebSocketProblem) -> String {
    match problem {
        WebSocketProblem::NotUpgraded(404) => {
            "Check the path: Sealpost's broker has /mqtt.".to_owned()
        }
        WebSocketProblem::NotUpgraded(_) | WebSocketProblem::OtherProtocol => {
            "Is that the broker, and the right path (Sealpost's broker has /mqtt)? A web server in front of it has to pass \
             WebSocket on."
                .to_owned()
        }
        WebSocketProblem::NotHttp | WebSocketProblem::Closed if !broker.transport().is_encrypted() => {
            format!(
                "If the port is for TLS, write wss://{} instead; if it is for plain MQTT, mqtt://{0}.",
                broker.authority()
            )
        }
        WebSocketProblem::NotHttp | WebSocketProblem::Closed => format!(
            "If the port is for MQTT without WebSocket, write mqtts://{} instead.",
            broker.authority()
        ),
        WebSocketProblem::Io(_) | WebSocketProblem::Other(_) => LOGS.to_owned(),
    }
}
