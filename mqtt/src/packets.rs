//! MQTT packets, over any byte stream: in and out. They are MQTT 5's, whatever is spoken (see [`crate::version`]).

use bytes::{Buf as _, BytesMut};
use rumqttc::v5::mqttbytes;
use rumqttc::v5::mqttbytes::v5::{Disconnect, DisconnectReasonCode, Packet, PubAck};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::connection::ConnectionError;
use crate::version::{self, Version};

/// The receiving side.
#[derive(Debug)]
pub struct Incoming<R> {
    stream: R,
    buffer: BytesMut,
    max_packet: u32,
    read_ahead: usize,
    version: Version,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    /// Reads from `stream` packets of at most `max_packet` bytes, and makes room for `read_ahead` bytes before each read.
    pub fn new(stream: R, max_packet: u32, read_ahead: usize) -> Incoming<R> {
        Incoming {
            stream,
            buffer: BytesMut::new(),
            max_packet,
            read_ahead,
            version: Version::V5,
        }
    }

    /// What comes is of this version.
    pub(crate) fn speak(&mut self, version: Version) {
        self.version = version;
    }

    /// Waits for more bytes. May be cancelled without losing any.
    ///
    /// # Errors
    /// When the stream breaks or ends.
    pub async fn fill(&mut self) -> Result<(), ConnectionError> {
        self.buffer.reserve(self.read_ahead);
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err(ConnectionError::Ended),
            Ok(_) => Ok(()),
            Err(error) => Err(ConnectionError::of_stream(error)),
        }
    }

    /// The next packet, if all its bytes are there.
    ///
    /// # Errors
    /// When the bytes are no packet.
    pub fn next_packet(&mut self) -> Result<Option<Packet>, ConnectionError> {
        if self.version == Version::V311 {
            return version::read(&mut self.buffer);
        }
        if let Some(goodbye) = self.short_disconnect() {
            return Ok(Some(goodbye));
        }
        let before = self.buffer.len();
        match Packet::read(&mut self.buffer, Some(self.max_packet)) {
            Ok(packet) => Ok(Some(packet)),
            // The decoder says the same of a packet that is still to come and of one whose inner lengths lie. Only the
            // first it leaves in the buffer.
            Err(mqttbytes::Error::InsufficientBytes(_)) if self.buffer.len() == before => Ok(None),
            Err(error) => Err(ConnectionError::Malformed(error.to_string())),
        }
    }

    /// A DISCONNECT may leave out its properties, and its reason as well (MQTT 5, section 3.14.2), which rumqttc's decoder
    /// does not accept; it is how mosquitto says that a session was taken over.
    fn short_disconnect(&mut self) -> Option<Packet> {
        let (reason, length) = match *self.buffer.as_ref() {
            [0xE0, 0, ..] => (DisconnectReasonCode::NormalDisconnection, 2),
            [0xE0, 1, reason, ..] => (
                reason
                    .try_into()
                    .unwrap_or(DisconnectReasonCode::UnspecifiedError),
                3,
            ),
            _ => return None,
        };
        self.buffer.advance(length);
        Some(Packet::Disconnect(Disconnect::new(reason)))
    }

    /// Waits for a packet. May be cancelled without losing any.
    ///
    /// # Errors
    /// As [`Incoming::fill`] and [`Incoming::next_packet`].
    pub async fn packet(&mut self) -> Result<Packet, ConnectionError> {
        loop {
            if let Some(packet) = self.next_packet()? {
                return Ok(packet);
            }
            self.fill().await?;
        }
    }

    /// The first bytes of what has come and is no packet yet.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.buffer
    }

    /// Throws away what comes until the end.
    pub(crate) async fn discard(&mut self) {
        self.buffer.clear();
        while self.fill().await.is_ok() {
            self.buffer.clear();
        }
    }
}

/// The sending side.
#[derive(Debug)]
pub struct Outgoing<W> {
    stream: W,
    buffer: BytesMut,
    /// TLS and WebSocket keep what they took until they are flushed.
    unflushed: bool,
    version: Version,
}

impl<W: AsyncWrite + Unpin> Outgoing<W> {
    /// Writes to `stream`.
    pub fn new(stream: W) -> Outgoing<W> {
        Outgoing {
            stream,
            buffer: BytesMut::new(),
            unflushed: false,
            version: Version::V5,
        }
    }

    /// What is sent is of this version.
    pub(crate) fn speak(&mut self, version: Version) {
        self.version = version;
    }

    /// Puts a packet behind those that wait to be sent.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn push(&mut self, packet: &Packet) -> Result<(), ConnectionError> {
        if self.version == Version::V311 {
            return version::write(packet, &mut self.buffer);
        }
        packet
            .write(&mut self.buffer, None)
            .map_err(|error| ConnectionError::Malformed(error.to_string()))?;
        Ok(())
    }

    /// Puts the acknowledgement of a message behind the packets that wait to be sent.
    ///
    /// # Errors
    /// As [`Outgoing::push`].
    pub fn acknowledge(&mut self, packet_id: u16) -> Result<(), ConnectionError> {
        self.push(&Packet::PubAck(PubAck::new(packet_id, None)))
    }

    /// Whether all has been sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty() && !self.unflushed
    }

    /// How many bytes wait to be taken by the stream.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.buffer.len()
    }

    /// Sends some of what waits. May be cancelled without sending anything twice.
    ///
    /// # Errors
    /// When the stream breaks.
    pub async fn send_some(&mut self) -> Result<(), ConnectionError> {
        if !self.buffer.is_empty() {
            self.unflushed = true;
            let written = self.stream.write_buf(&mut self.buffer).await;
            written.map_err(ConnectionError::of_stream)?;
        }
        if self.buffer.is_empty() && self.unflushed {
            self.stream
                .flush()
                .await
                .map_err(ConnectionError::of_stream)?;
            self.unflushed = false;
        }
        Ok(())
    }

    /// Sends all that waits.
    ///
    /// # Errors
    /// When the stream breaks.
    pub async fn send_all(&mut self) -> Result<(), ConnectionError> {
        while !self.is_empty() {
            self.send_some().await?;
        }
        Ok(())
    }

    /// Says goodbye and closes the sending side.
    ///
    /// # Errors
    /// When the stream breaks.
    pub async fn close(&mut self) -> Result<(), ConnectionError> {
        self.push(&Packet::Disconnect(Disconnect::new(
            DisconnectReasonCode::NormalDisconnection,
        )))?;
        self.send_all().await?;
        self.stream
            .shutdown()
            .await
            .map_err(ConnectionError::of_stream)
    }
}

#[cfg(test)]
mod tests;
