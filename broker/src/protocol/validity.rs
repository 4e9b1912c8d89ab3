//! Validity: what the standards forbid and the codec lets through.
//!
//! rumqttd's codecs read what a packet says; whether it may say so, they mostly do not ask. This module walks a whole
//! packet before them: lengths that end where the packet does, the shortest form of every integer, UTF-8 without NUL,
//! properties that belong to the packet and appear as often as they may, flags and options that mean something. The
//! difference between a **malformed** packet and a **protocol error** is the standard's (MQTT 5.0, section 4.13).

use super::packet::{PacketError, Version};

/// Checks the content of a client's packet: what follows its fixed header, whose type and flags are checked already.
///
/// # Errors
/// [`PacketError::Malformed`], [`PacketError::Forbidden`], or one of those that have a reason of their own.
pub(super) fn check(
    version: Version,
    packet_type: u8,
    flags: u8,
    body: &[u8],
) -> Result<(), PacketError> {
    let mut rest = Reader(body);
    match packet_type {
        1 => connect(version, &mut rest)?,
        3 => return publish(version, flags, &mut rest),
        4..=7 => acknowledgement(version, packet_type, &mut rest)?,
        8 => subscribe(version, &mut rest)?,
        10 => unsubscribe(version, &mut rest)?,
        14 if version == Version::V5 => disconnect(&mut rest)?,
        // PINGREQ, and DISCONNECT of 3.1.1, have no content.
        _ => {}
    }
    rest.end()
}

fn malformed<T>(what: impl Into<String>) -> Result<T, PacketError> {
    Err(PacketError::Malformed(what.into()))
}

fn forbid(what: &'static str) -> Result<(), PacketError> {
    Err(PacketError::Forbidden(what))
}

/// What is left of a packet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn end(&self) -> Result<(), PacketError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            malformed(format!("{} bytes too many", self.0.len()))
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], PacketError> {
        match self.0.split_at_checked(count) {
            Some((taken, rest)) => {
                self.0 = rest;
                Ok(taken)
            }
            None => malformed("it ends too early"),
        }
    }

    fn u8(&mut self) -> Result<u8, PacketError> {
        Ok(self.take(1)?.iter().fold(0, |_, byte| *byte))
    }

    fn u16(&mut self) -> Result<u16, PacketError> {
        Ok(self
            .take(2)?
            .iter()
            .fold(0, |value, byte| value << 8 | u16::from(*byte)))
    }

    fn u32(&mut self) -> Result<u32, PacketError> {
        Ok(self
            .take(4)?
            .iter()
            .fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }

    /// A variable byte integer, in as few bytes as it needs (MQTT 5.0, section 1.5.5).
    fn varint(&mut self) -> Result<usize, PacketError> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return malformed("an integer in more bytes than it needs");
                }
                return Ok(value);
            }
        }
        malformed("an integer of more than four bytes")
    }

    fn bytes(&mut self) -> Result<&'a [u8], PacketError> {
        let length = self.u16()?;
        self.take(length.into())
    }

    /// UTF-8 without U+0000 (section 1.5.4). Surrogates are not UTF-8.
    fn text(&mut self) -> Result<&'a str, PacketError> {
        match std::str::from_utf8(self.bytes()?) {
            Ok(text) if text.contains('\0') => malformed("a string with a NUL character"),
            Ok(text) => Ok(text),
            Err(_) => malformed("a string that is not UTF-8"),
        }
    }

    fn pkid(&mut self) -> Result<(), PacketError> {
        if self.u16()? == 0 {
            return malformed("packet identifier 0");
        }
        Ok(())
    }
}

/// Where properties stand: not every one may stand everywhere (MQTT 5.0, section 2.2.2.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Connect,
    Will,
    Publish,
    Acknowledgement,
    Subscribe,
    Unsubscribe,
    Disconnect,
}

/// Properties that were seen, one bit for each; their identifiers are below 64.
#[derive(Default)]
struct Seen(u64);

impl Seen {
    fn has(&self, id: usize) -> bool {
        id < 64 && self.0 & 1 << id != 0
    }

    fn add(&mut self, id: usize) {
        if id < 64 {
            self.0 |= 1 << id;
        }
    }
}

const PAYLOAD_FORMAT: usize = 0x01;
const MESSAGE_EXPIRY: usize = 0x02;
const CONTENT_TYPE: usize = 0x03;
const RESPONSE_TOPIC: usize = 0x08;
const CORRELATION_DATA: usize = 0x09;
const SUBSCRIPTION_ID: usize = 0x0b;
const SESSION_EXPIRY: usize = 0x11;
const AUTHENTICATION_METHOD: usize = 0x15;
const AUTHENTICATION_DATA: usize = 0x16;
const REQUEST_PROBLEM_INFORMATION: usize = 0x17;
const WILL_DELAY: usize = 0x18;
const REQUEST_RESPONSE_INFORMATION: usize = 0x19;
const REASON_STRING: usize = 0x1f;
const RECEIVE_MAXIMUM: usize = 0x21;
const TOPIC_ALIAS_MAXIMUM: usize = 0x22;
const TOPIC_ALIAS: usize = 0x23;
const USER_PROPERTY: usize = 0x26;
const MAXIMUM_PACKET: usize = 0x27;

fn belongs(id: usize, place: Place) -> bool {
    use Place::{Acknowledgement, Connect, Disconnect, Publish, Subscribe, Will};
    match id {
        PAYLOAD_FORMAT | MESSAGE_EXPIRY | CONTENT_TYPE | RESPONSE_TOPIC | CORRELATION_DATA => {
            matches!(place, Publish | Will)
        }
        SUBSCRIPTION_ID => matches!(place, Publish | Subscribe),
        SESSION_EXPIRY => matches!(place, Connect | Disconnect),
        WILL_DELAY => place == Will,
        REASON_STRING => matches!(place, Acknowledgement | Disconnect),
        TOPIC_ALIAS => place == Publish,
        USER_PROPERTY => true,
        AUTHENTICATION_METHOD
        | AUTHENTICATION_DATA
        | REQUEST_PROBLEM_INFORMATION
        | REQUEST_RESPONSE_INFORMATION
        | RECEIVE_MAXIMUM
        | TOPIC_ALIAS_MAXIMUM
        | MAXIMUM_PACKET => place == Connect,
        // The others are a server's to send, or nobody's.
        _ => false,
    }
}

fn properties(rest: &mut Reader<'_>, place: Place) -> Result<Seen, PacketError> {
    let length = rest.varint()?;
    let mut rest = Reader(rest.take(length)?);
    let mut seen = Seen::default();
    while !rest.0.is_empty() {
        let id = rest.varint()?;
        if !belongs(id, place) {
            return malformed(format!("property {id:#04x} does not belong there"));
        }
        if seen.has(id) && id != USER_PROPERTY {
            return Err(PacketError::Forbidden("a property that is there twice"));
        }
        seen.add(id);
        property(id, place, &mut rest)?;
    }
    Ok(seen)
}

fn property(id: usize, place: Place, rest: &mut Reader<'_>) -> Result<(), PacketError> {
    let refused = match id {
        PAYLOAD_FORMAT | REQUEST_PROBLEM_INFORMATION | REQUEST_RESPONSE_INFORMATION => {
            (rest.u8()? > 1).then_some("a property that is neither 0 nor 1")
        }
        RECEIVE_MAXIMUM => (rest.u16()? == 0).then_some("a Receive Maximum of 0"),
        MAXIMUM_PACKET => (rest.u32()? == 0).then_some("a Maximum Packet Size of 0"),
        SUBSCRIPTION_ID => match (rest.varint()?, place) {
            (0, _) => Some("a subscription identifier of 0"),
            (_, Place::Publish) => Some("a subscription identifier in a client's PUBLISH"),
            _ => None,
        },
        RESPONSE_TOPIC => rest
            .text()?
            .contains(['+', '#'])
            .then_some("a response topic with wildcards"),
        TOPIC_ALIAS if rest.u16()? == 0 => return Err(PacketError::TopicAliasZero),
        TOPIC_ALIAS_MAXIMUM => rest.take(2).map(|_| None)?,
        MESSAGE_EXPIRY | SESSION_EXPIRY | WILL_DELAY => rest.take(4).map(|_| None)?,
        CONTENT_TYPE | AUTHENTICATION_METHOD | REASON_STRING => rest.text().map(|_| None)?,
        CORRELATION_DATA | AUTHENTICATION_DATA => rest.bytes().map(|_| None)?,
        USER_PROPERTY => {
            rest.text()?;
            rest.text().map(|_| None)?
        }
        // Read already; and nothing else belongs anywhere.
        _ => None,
    };
    refused.map_or(Ok(()), forbid)
}

fn connect(version: Version, rest: &mut Reader<'_>) -> Result<(), PacketError> {
    // Name and level were read to tell the version.
    rest.text()?;
    rest.u8()?;
    let flags = rest.u8()?;
    let flag = |bit: u8| flags & bit != 0;
    let (will, will_qos, will_retain) = (flag(0x04), flags >> 3 & 0b11, flag(0x20));
    let (password, user_name) = (flag(0x40), flag(0x80));
    if flag(0x01) {
        return malformed("the reserved connect flag is set");
    }
    if will_qos == 3 || (!will && (will_qos != 0 || will_retain)) {
        return malformed("connect flags of a will that cannot be");
    }
    if password && !user_name && version == Version::V311 {
        return malformed("a password without a user name");
    }
    rest.u16()?;
    if version == Version::V5 {
        let seen = properties(rest, Place::Connect)?;
        if seen.has(AUTHENTICATION_DATA) && !seen.has(AUTHENTICATION_METHOD) {
            return forbid("authentication data without a method");
        }
    }
    rest.text()?;
    if will {
        if version == Version::V5 {
            properties(rest, Place::Will)?;
        }
        if rest.text()?.is_empty() {
            return forbid("a will without a topic");
        }
        rest.bytes()?;
    }
    if user_name {
        rest.text()?;
    }
    if password && std::str::from_utf8(rest.bytes()?).is_err() {
        return Err(PacketError::PasswordNotText);
    }
    Ok(())
}

fn publish(version: Version, flags: u8, rest: &mut Reader<'_>) -> Result<(), PacketError> {
    let topic = rest.text()?;
    if flags & 0b0110 != 0 {
        rest.pkid()?;
    } else if flags & 0b1000 != 0 {
        return malformed("a PUBLISH at QoS 0 that says it is a duplicate");
    }
    let aliased = version == Version::V5 && properties(rest, Place::Publish)?.has(TOPIC_ALIAS);
    if topic.is_empty() && !aliased {
        return forbid("a PUBLISH without a topic or an alias");
    }
    Ok(())
}

fn acknowledgement(
    version: Version,
    packet_type: u8,
    rest: &mut Reader<'_>,
) -> Result<(), PacketError> {
    rest.pkid()?;
    if version == Version::V311 || rest.0.is_empty() {
        return Ok(());
    }
    let reason = rest.u8()?;
    // MQTT 5.0, sections 3.4.2.1 to 3.7.2.1: PUBACK and PUBREC share their reasons, PUBREL and PUBCOMP theirs.
    let known = match packet_type {
        4 | 5 => [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99].contains(&reason),
        _ => [0x00, 0x92].contains(&reason),
    };
    if !known {
        return malformed(format!("reason {reason:#04x} in an acknowledgement"));
    }
    if !rest.0.is_empty() {
        properties(rest, Place::Acknowledgement)?;
    }
    Ok(())
}

fn subscribe(version: Version, rest: &mut Reader<'_>) -> Result<(), PacketError> {
    rest.pkid()?;
    if version == Version::V5 {
        properties(rest, Place::Subscribe)?;
    }
    if rest.0.is_empty() {
        return forbid("a SUBSCRIBE without a filter");
    }
    while !rest.0.is_empty() {
        let filter = filter(rest)?;
        let options = rest.u8()?;
        let reserved = match version {
            Version::V311 => 0b1111_1100,
            Version::V5 => 0b1100_0000,
        };
        if options & reserved != 0 {
            return malformed("reserved subscription options");
        }
        if options & 0b11 == 3 {
            return forbid("a subscription at QoS 3");
        }
        if options >> 4 == 3 {
            return forbid("a retain handling of 3");
        }
        if options & 0b100 != 0 && filter.starts_with("$share/") {
            return forbid("a shared subscription with No Local");
        }
    }
    Ok(())
}

fn unsubscribe(version: Version, rest: &mut Reader<'_>) -> Result<(), PacketError> {
    rest.pkid()?;
    if version == Version::V5 {
        properties(rest, Place::Unsubscribe)?;
    }
    if rest.0.is_empty() {
        return forbid("an UNSUBSCRIBE without a filter");
    }
    while !rest.0.is_empty() {
        filter(rest)?;
    }
    Ok(())
}

/// A filter has at least one character (section 4.7.3); whether its wildcards are in their places is for the answer.
fn filter<'a>(rest: &mut Reader<'a>) -> Result<&'a str, PacketError> {
    match rest.text()? {
        "" => Err(PacketError::Forbidden("an empty filter")),
        filter => Ok(filter),
    }
}

/// Reasons that a client may give (MQTT 5.0, section 3.14.2.1).
const CLIENT_DISCONNECTS: [u8; 14] = [
    0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
];

fn disconnect(rest: &mut Reader<'_>) -> Result<(), PacketError> {
    if rest.0.is_empty() {
        return Ok(());
    }
    if !CLIENT_DISCONNECTS.contains(&rest.u8()?) {
        return forbid("a DISCONNECT with a reason that is not a client's to give");
    }
    if !rest.0.is_empty() {
        properties(rest, Place::Disconnect)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
