//! The shapes of the files. Binary is in standard base64 unless a member's name ends in `hex`; times are texts.

use serde::{Deserialize, Serialize};

/// One file.
#[derive(Serialize, Deserialize)]
pub(crate) struct File<C> {
    pub(crate) about: String,
    pub(crate) cases: Vec<C>,
}

/// Bytes as they would arrive: as text where they are text.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Wire {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) base64: Option<String>,
    /// So many spaces follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) spaces: Option<usize>,
}

/// `people.json`
#[derive(Serialize, Deserialize)]
pub(crate) struct PersonCase {
    pub(crate) name: String,
    pub(crate) user: String,
    /// The Ed25519 private key of RFC 8032: 32 bytes.
    pub(crate) seed: String,
    pub(crate) identity: String,
    pub(crate) fingerprint: String,
    /// PKCS #8 DER; none for people to whom nobody writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rsa: Option<String>,
    /// SPKI DER.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) encryption: Option<String>,
}

/// `names.json`
#[derive(Serialize, Deserialize)]
pub(crate) struct NameCase {
    pub(crate) what: String,
    pub(crate) text: String,
    pub(crate) expect: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) millis: Option<u64>,
}

/// `transcripts.json`
#[derive(Serialize, Deserialize)]
pub(crate) struct TranscriptCase {
    pub(crate) name: String,
    pub(crate) label: String,
    pub(crate) fields: Vec<TranscriptField>,
    pub(crate) hex: String,
    pub(crate) sha256_hex: String,
    /// Where the transcript is signed: by whom and with what result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signature: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct TranscriptField {
    pub(crate) field: String,
    pub(crate) hex: String,
}

/// `identity_keys.json`, `encryption_keys.json`
#[derive(Serialize, Deserialize)]
pub(crate) struct KeyCase {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) expect: String,
}

/// `signatures.json`
#[derive(Serialize, Deserialize)]
pub(crate) struct SignatureCase {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) message: String,
    pub(crate) signature: String,
    pub(crate) expect: String,
}

/// `key_ids.json`
#[derive(Serialize, Deserialize)]
pub(crate) struct KeyIdCase {
    pub(crate) name: String,
    pub(crate) realm: String,
    pub(crate) identity: String,
    pub(crate) encryption: String,
    pub(crate) id: String,
}

/// `bundles.json`
#[derive(Serialize, Deserialize)]
pub(crate) struct BundleCase {
    pub(crate) name: String,
    pub(crate) expect: String,
    /// SHA-256 of the bytes, for good ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<String>,
    /// How many of its keys version 1 can encrypt to, for good ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usable_keys: Option<usize>,
    pub(crate) bundle: Wire,
}

/// `trust.json`
#[derive(Serialize, Deserialize)]
pub(crate) struct TrustCase {
    pub(crate) name: String,
    pub(crate) realm: String,
    pub(crate) user: String,
    pub(crate) now: String,
    pub(crate) pin: Option<PinCase>,
    pub(crate) bundle: Wire,
    pub(crate) expect: String,
    /// The pin to store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) store: Option<PinCase>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct PinCase {
    pub(crate) identity: String,
    pub(crate) seq: u64,
    pub(crate) digest: String,
    pub(crate) verified: bool,
}

/// `envelopes.json`
#[derive(Serialize, Deserialize)]
pub(crate) struct EnvelopeCase {
    pub(crate) name: String,
    pub(crate) expect: String,
    /// For well-formed ones: whether the signature holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signature_holds: Option<bool>,
    /// For well-formed ones: SHA-256 of the signed transcript.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<String>,
    pub(crate) envelope: Wire,
}

/// `openings.json`
#[derive(Serialize, Deserialize)]
pub(crate) struct OpeningCase {
    pub(crate) name: String,
    pub(crate) realm: String,
    pub(crate) user: String,
    pub(crate) identity: String,
    /// Whose RSA keys are at hand: names in `people.json`.
    pub(crate) keys: Vec<String>,
    /// The identity that is pinned for `from`.
    pub(crate) pinned: String,
    /// The ids that this sender's mail was opened under before.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) seen: Vec<String>,
    /// Mail of this sender with a lower `ts` is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) floor: Option<String>,
    pub(crate) envelope: Wire,
    pub(crate) expect: String,
    /// What it says, when it opens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<ContentSays>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct ContentSays {
    pub(crate) kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) json: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) receipt: Option<ReceiptSays>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct ReceiptSays {
    pub(crate) state: String,
    pub(crate) messages: Vec<ReceiptedSays>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct ReceiptedSays {
    pub(crate) id: String,
    pub(crate) digest: String,
}

/// `padding.json`
#[derive(Serialize, Deserialize)]
pub(crate) struct PaddingCase {
    pub(crate) length: usize,
    pub(crate) padded: usize,
}

/// `content.json`
#[derive(Serialize, Deserialize)]
pub(crate) struct ContentCase {
    pub(crate) name: String,
    pub(crate) plaintext: Wire,
    pub(crate) expect: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<ContentSays>,
}

/// `readings.json`
#[derive(Serialize, Deserialize)]
pub(crate) struct ReadingCase {
    pub(crate) name: String,
    pub(crate) content: String,
    pub(crate) expect: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reading: Option<ReadingSays>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gap: Option<GapSays>,
}

/// A reading.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReadingSays {
    pub(crate) number: u64,
    pub(crate) at: String,
    /// As JSON.
    pub(crate) value: String,
}

/// A gap of readings.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct GapSays {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) first_at: String,
    pub(crate) last_at: String,
}

/// `conversation.json`
#[derive(Serialize, Deserialize)]
pub(crate) struct ConversationCase {
    pub(crate) name: String,
    pub(crate) content: String,
    pub(crate) expect: String,
    #[serde(flatten)]
    pub(crate) says: ConversationSays,
}

/// What it says: the members that its kind has.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ConversationSays {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) text: Option<String>,
    /// Who wrote what is answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) from: Option<String>,
    /// Of what is answered, edited or deleted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) seq: Option<u64>,
}

/// `expiries.json`
#[derive(Serialize, Deserialize)]
pub(crate) struct ExpiryCase {
    pub(crate) name: String,
    /// The reader's clock.
    pub(crate) now: String,
    /// In this order.
    pub(crate) came: Vec<ExpirySays>,
    /// The one that counts then.
    pub(crate) counts: Option<ExpirySays>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ExpirySays {
    pub(crate) seconds: u64,
    pub(crate) seq: u64,
}

/// `files.json`
#[derive(Serialize, Deserialize)]
pub(crate) struct FileCase {
    pub(crate) name: String,
    pub(crate) content: String,
    pub(crate) expect: String,
    /// The members that the kind has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) says: Option<serde_json::Value>,
}

/// `file_chunks.json`
#[derive(Serialize, Deserialize)]
pub(crate) struct FileChunkCase {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) size: u64,
    pub(crate) chunk: u32,
    pub(crate) index: u32,
    pub(crate) data: String,
    pub(crate) expect: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) plaintext: Option<String>,
}

/// `file_names.json`
#[derive(Serialize, Deserialize)]
pub(crate) struct FileNameCase {
    pub(crate) name: String,
    pub(crate) saved: String,
}

/// `logins.json`
#[derive(Serialize, Deserialize)]
pub(crate) struct LoginCase {
    pub(crate) name: String,
    pub(crate) realm: String,
    pub(crate) user: String,
    pub(crate) client_id: String,
    pub(crate) channel_binding: String,
    pub(crate) now: String,
    pub(crate) token: String,
    pub(crate) expect: String,
}

/// `invitations.json`
#[derive(Serialize, Deserialize)]
pub(crate) struct InvitationCase {
    pub(crate) name: String,
    pub(crate) realm: String,
    pub(crate) user: String,
    pub(crate) invitation: String,
    pub(crate) key: String,
    pub(crate) password: String,
    pub(crate) expect: String,
}

/// `uris.json`
#[derive(Serialize, Deserialize)]
pub(crate) struct UriCase {
    pub(crate) what: String,
    pub(crate) name: String,
    pub(crate) text: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) realm: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) identity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) broker: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) contact: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) sees: Option<String>,
    pub(crate) expect: String,
}

/// `safety_numbers.json`
#[derive(Serialize, Deserialize)]
pub(crate) struct SafetyCase {
    pub(crate) name: String,
    pub(crate) realm: String,
    pub(crate) parties: [SafetyParty; 2],
    pub(crate) number: String,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct SafetyParty {
    pub(crate) user: String,
    pub(crate) identity: String,
}
