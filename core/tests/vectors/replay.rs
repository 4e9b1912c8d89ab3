//! Every case of every file, replayed.

use std::collections::HashMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sealpost_core::{
    Assessment, BurstCache, Chunking, ContactLink, Content, DecryptionKey, Deletion, EncryptionKey,
    Envelope, Expiry, FileChunk, FileEnd, FileKey, FileOffer, FileRequest, Identity, IdentityKey,
    Invitation, KeyBundle, KeyId, Lifetime, LoginError, LoginPassword, LoginToken, MessageId, Pin,
    Reading, ReadingGap, Realm, Recipient, RsaDecryptionKey, SafetyNumber, Seen, Signature,
    Timestamp, Topic, TopicFilter, UserId, Verification, assess, padded_length, saved_name,
};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::aws_lc::AwsLcKey;
use crate::generator::cases::{
    BundleCase, ContentCase, ContentSays, ConversationCase, ConversationSays, EnvelopeCase,
    ExpiryCase, ExpirySays, File, FileCase, FileChunkCase, FileNameCase, GapSays, InvitationCase,
    KeyCase, KeyIdCase, LoginCase, NameCase, OpeningCase, PaddingCase, PersonCase, PinCase,
    ReadingCase, ReadingSays, ReceiptSays, ReceiptedSays, SafetyCase, SignatureCase,
    TranscriptCase, TrustCase, UriCase, Wire,
};
use crate::{outcome, path};

fn cases<C: DeserializeOwned>(file: &str) -> Vec<C> {
    let text = std::fs::read_to_string(path(file)).unwrap();
    let file: File<C> = serde_json::from_str(&text).unwrap();
    assert!(!file.cases.is_empty());
    file.cases
}

fn decode(text: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(text).unwrap()
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_STANDARD.encode(bytes)
}

fn bytes(wire: &Wire) -> Vec<u8> {
    let mut bytes = match (&wire.text, &wire.base64) {
        (Some(text), None) => text.as_bytes().to_vec(),
        (None, Some(base64)) => decode(base64),
        _ => panic!("either text or base64"),
    };
    bytes.resize(bytes.len() + wire.spaces.unwrap_or(0), b' ');
    bytes
}

fn identity_key(text: &str) -> IdentityKey {
    IdentityKey::from_base64(text).unwrap()
}

/// What a case may come to: `refused` leaves open how.
fn matches(expected: &str, outcome: &str) -> bool {
    expected == outcome || expected == "refused" && outcome != "ok"
}

#[test]
fn people() {
    for case in cases::<PersonCase>("people.json") {
        let seed = decode(&case.seed).try_into().unwrap();
        let identity = Identity::from_seed(&seed);
        assert_eq!(identity.key().to_base64(), case.identity, "{}", case.name);
        assert_eq!(
            identity.key().fingerprint(),
            case.fingerprint,
            "{}",
            case.name
        );
        if let Some(rsa) = case.rsa {
            let rsa = RsaDecryptionKey::from_pkcs8_der(&decode(&rsa)).unwrap();
            assert_eq!(
                Some(encode(rsa.encryption_key().spki_der())),
                case.encryption,
                "{}",
                case.name
            );
        }
    }
}

#[test]
fn names() {
    for case in cases::<NameCase>("names.json") {
        let text = case.text.as_str();
        let outcome = match case.what.as_str() {
            "user" => outcome::name(UserId::parse(text)),
            "realm" => outcome::name(Realm::parse(text)),
            "topic" => outcome::topic(Topic::parse(text)),
            "filter" => outcome::topic(TopicFilter::parse(text)),
            "time" => {
                let time = Timestamp::parse(text);
                assert_eq!(time.map(Timestamp::millis).ok(), case.millis, "{text:?}");
                outcome::plain(time)
            }
            "message-id" if MessageId::parse(text).is_ok() => "ok".to_owned(),
            "message-id" => "bad".to_owned(),
            other => panic!("what is a {other}?"),
        };
        assert_eq!(outcome, case.expect, "{} {text:?}", case.what);
    }
}

#[test]
fn identity_keys() {
    for case in cases::<KeyCase>("identity_keys.json") {
        let outcome = outcome::plain(IdentityKey::parse(&decode(&case.key)));
        assert!(
            matches(&case.expect, &outcome),
            "{}: {outcome} instead of {}",
            case.name,
            case.expect
        );
    }
}

#[test]
fn signatures() {
    for case in cases::<SignatureCase>("signatures.json") {
        let signature = Signature::from_bytes(decode(&case.signature).try_into().unwrap());
        let holds = identity_key(&case.key)
            .verify(&decode(&case.message), &signature)
            .is_ok();
        assert_eq!(
            if holds { "ok" } else { "bad" },
            case.expect,
            "{}",
            case.name
        );
    }
}

#[test]
fn encryption_keys() {
    for case in cases::<KeyCase>("encryption_keys.json") {
        let outcome = outcome::plain(EncryptionKey::parse(&decode(&case.key)));
        assert!(
            matches(&case.expect, &outcome),
            "{}: {outcome} instead of {}",
            case.name,
            case.expect
        );
    }
}

#[test]
fn key_ids() {
    for case in cases::<KeyIdCase>("key_ids.json") {
        let key = EncryptionKey::parse(&decode(&case.encryption)).unwrap();
        let id = KeyId::of(
            &Realm::parse(&case.realm).unwrap(),
            &identity_key(&case.identity),
            &key,
        );
        assert_eq!(id.to_string(), case.id, "{}", case.name);
    }
}

/// The transcripts of this crate are its own affair; what they sign is not. So each signature is checked over the
/// file's bytes, and that those are the crate's is shown by the other files.
#[test]
fn transcripts() {
    let people: HashMap<_, _> = cases::<PersonCase>("people.json")
        .into_iter()
        .map(|one| (one.name.clone(), one))
        .collect();
    let from_hex = |hex: &str| -> Vec<u8> {
        hex.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    };
    for case in cases::<TranscriptCase>("transcripts.json") {
        let mut expected = Vec::new();
        let fields = case.fields.iter().map(|field| from_hex(&field.hex));
        for field in std::iter::once(case.label.as_bytes().to_vec()).chain(fields) {
            expected.extend(u32::try_from(field.len()).unwrap().to_be_bytes());
            expected.extend(field);
        }
        assert_eq!(from_hex(&case.hex), expected, "{}", case.name);
        if let (Some(signer), Some(signature)) = (case.signer, case.signature) {
            let signature = Signature::from_bytes(decode(&signature).try_into().unwrap());
            let key = identity_key(&people[&signer].identity);
            assert_eq!(key.verify(&expected, &signature), Ok(()), "{}", case.name);
        }
    }
}

#[test]
fn bundles() {
    for case in cases::<BundleCase>("bundles.json") {
        let bytes = bytes(&case.bundle);
        let parsed = KeyBundle::parse(&bytes);
        if let Ok(bundle) = &parsed {
            assert_eq!(bundle.as_bytes(), bytes, "{}", case.name);
            assert_eq!(Some(encode(bundle.digest())), case.digest, "{}", case.name);
            assert_eq!(
                Some(bundle.encryption().len()),
                case.usable_keys,
                "{}",
                case.name
            );
        }
        assert_eq!(outcome::bundle(parsed), case.expect, "{}", case.name);
    }
}

fn pin(case: &PinCase) -> Pin {
    Pin {
        identity: identity_key(&case.identity),
        seq: case.seq,
        digest: decode(&case.digest).try_into().unwrap(),
        verified: case.verified,
    }
}

#[test]
fn trust() {
    for case in cases::<TrustCase>("trust.json") {
        let bundle = KeyBundle::parse(&bytes(&case.bundle)).expect(&case.name);
        let (realm, user) = (
            Realm::parse(&case.realm).unwrap(),
            UserId::parse(&case.user).unwrap(),
        );
        let known = case.pin.as_ref().map(pin);
        let now = Timestamp::parse(&case.now).unwrap();
        let assessment = assess(known.as_ref(), &bundle, &realm, &user, now);
        assert_eq!(
            assessment.as_ref().ok().map(Assessment::pin).copied(),
            case.store.as_ref().map(pin),
            "{}",
            case.name
        );
        let outcome = match &assessment {
            Ok(assessment) => outcome::word(assessment),
            Err(refused) => outcome::refused(refused),
        };
        assert_eq!(outcome, case.expect, "{}", case.name);
    }
}

#[test]
fn envelopes() {
    for case in cases::<EnvelopeCase>("envelopes.json") {
        let bytes = bytes(&case.envelope);
        let parsed = Envelope::parse(&bytes);
        if let Ok(envelope) = &parsed {
            assert_eq!(envelope.as_bytes(), bytes, "{}", case.name);
            assert_eq!(
                Some(envelope.verify_signature().is_ok()),
                case.signature_holds,
                "{}",
                case.name
            );
            assert_eq!(
                Some(encode(envelope.digest())),
                case.digest,
                "{}",
                case.name
            );
        }
        assert_eq!(outcome::envelope(parsed), case.expect, "{}", case.name);
    }
}

/// What a case says was seen before.
struct Remembered<'a>(&'a OpeningCase);

impl Seen for Remembered<'_> {
    fn contains(&self, _from: &UserId, id: &MessageId) -> bool {
        self.0.seen.contains(&id.to_string())
    }

    fn floor(&self, _from: &UserId) -> Option<Timestamp> {
        self.0
            .floor
            .as_ref()
            .map(|floor| Timestamp::parse(floor).unwrap())
    }
}

fn says(content: &Content) -> ContentSays {
    let kind = content.kind().to_owned();
    match content {
        Content::Text { .. } | Content::Reply(_) | Content::Edit(_) => ContentSays {
            kind,
            text: content.text().map(str::to_owned),
            json: None,
            receipt: None,
        },
        Content::Receipt(receipt) => ContentSays {
            kind,
            text: None,
            json: None,
            receipt: Some(ReceiptSays {
                state: receipt.state().as_str().to_owned(),
                messages: receipt
                    .messages()
                    .iter()
                    .map(|message| ReceiptedSays {
                        id: message.id.to_string(),
                        digest: BASE64_STANDARD.encode(message.digest),
                    })
                    .collect(),
            }),
        },
        Content::Other { json, .. } => ContentSays {
            kind,
            text: None,
            json: Some(json.clone()),
            receipt: None,
        },
    }
}

/// Opens every case with the keys that `load` makes, all with one cache as a recipient would.
fn openings(load: impl Fn(&[u8], EncryptionKey) -> Box<dyn DecryptionKey>) {
    let keys: HashMap<_, _> = cases::<PersonCase>("people.json")
        .into_iter()
        .filter_map(|person| {
            let public = EncryptionKey::parse(&decode(&person.encryption?)).unwrap();
            Some((person.name, load(&decode(&person.rsa?), public)))
        })
        .collect();
    let mut cache = BurstCache::new();
    for case in cases::<OpeningCase>("openings.json") {
        let envelope = Envelope::parse(&bytes(&case.envelope)).expect(&case.name);
        let (realm, user) = (
            Realm::parse(&case.realm).unwrap(),
            UserId::parse(&case.user).unwrap(),
        );
        let keys: Vec<_> = case.keys.iter().map(|name| keys[name].as_ref()).collect();
        let recipient = Recipient {
            realm: &realm,
            user: &user,
            identity: &identity_key(&case.identity),
            keys: &keys,
        };
        let open = |cache: &mut BurstCache| {
            sealpost_core::open(
                &envelope,
                &recipient,
                &identity_key(&case.pinned),
                &Remembered(&case),
                cache,
            )
        };
        for (cache, how) in [
            (&mut BurstCache::new(), "alone"),
            (&mut cache, "with a cache"),
        ] {
            let opened = open(cache);
            assert_eq!(
                opened.as_ref().ok().map(says),
                case.content,
                "{}, {how}",
                case.name
            );
            assert_eq!(
                outcome::opening(opened),
                case.expect,
                "{}, {how}",
                case.name
            );
        }
    }
}

#[test]
fn openings_with_the_portable_rsa_key() {
    openings(|pkcs8, _| Box::new(RsaDecryptionKey::from_pkcs8_der(pkcs8).unwrap()));
}

#[test]
fn openings_with_the_rsa_key_of_aws_lc() {
    openings(|pkcs8, public| Box::new(AwsLcKey::new(pkcs8, public)));
}

#[test]
fn padding() {
    for case in cases::<PaddingCase>("padding.json") {
        assert_eq!(padded_length(case.length), case.padded, "{}", case.length);
    }
}

#[test]
fn content() {
    for case in cases::<ContentCase>("content.json") {
        let plaintext = bytes(&case.plaintext);
        // What `open` does with a plaintext is not public; cutting off spaces and reading is.
        let content = match std::str::from_utf8(&plaintext) {
            Ok(text) => Content::parse(text.trim_end_matches(' ')),
            Err(_) => Err(sealpost_core::ContentError::Encoding(
                sealpost_core::EncodingError::NotUtf8,
            )),
        };
        assert_eq!(
            content.as_ref().ok().map(says),
            case.content,
            "{}",
            case.name
        );
        assert_eq!(outcome::content(content), case.expect, "{}", case.name);
    }
}

#[test]
fn readings() {
    for case in cases::<ReadingCase>("readings.json") {
        let content = Content::parse(&case.content).unwrap();
        let reading = Reading::read(&content).map(|reading| ReadingSays {
            number: reading.number(),
            at: reading.at().to_string(),
            value: reading.value().to_owned(),
        });
        let gap = ReadingGap::read(&content).map(|gap| GapSays {
            first: gap.first(),
            last: gap.last(),
            first_at: gap.first_at().to_string(),
            last_at: gap.last_at().to_string(),
        });
        let came_out = match (&reading, &gap) {
            (Some(_), _) => "reading",
            (None, Some(_)) => "reading-gap",
            (None, None) => "other",
        };
        assert_eq!(came_out, case.expect, "{}", case.name);
        assert_eq!(reading, case.reading, "{}", case.name);
        assert_eq!(gap, case.gap, "{}", case.name);
    }
}

#[test]
fn conversation() {
    for case in cases::<ConversationCase>("conversation.json") {
        let content = Content::parse(&case.content).unwrap();
        let text = content.text().map(str::to_owned);
        let (expect, says) = match &content {
            Content::Text { .. } => ("text", ConversationSays::default()),
            Content::Reply(reply) => (
                "reply",
                ConversationSays {
                    from: Some(reply.to.from.to_string()),
                    id: Some(reply.to.id.to_string()),
                    ..ConversationSays::default()
                },
            ),
            Content::Edit(edit) => (
                "edit",
                ConversationSays {
                    id: Some(edit.of.to_string()),
                    ..ConversationSays::default()
                },
            ),
            other => match (Deletion::read(other), Expiry::read(other)) {
                (Some(deletion), _) => (
                    "delete",
                    ConversationSays {
                        id: Some(deletion.message.to_string()),
                        ..ConversationSays::default()
                    },
                ),
                (_, Some(expiry)) => (
                    "expiry",
                    ConversationSays {
                        seconds: Some(expiry.lifetime().map_or(0, |time| time.seconds().into())),
                        seq: Some(expiry.seq()),
                        ..ConversationSays::default()
                    },
                ),
                (None, None) => ("other", ConversationSays::default()),
            },
        };
        assert_eq!(expect, case.expect, "{}", case.name);
        assert_eq!(
            ConversationSays { text, ..says },
            case.says,
            "{}",
            case.name
        );
    }
}

#[test]
fn expiries() {
    for case in cases::<ExpiryCase>("expiries.json") {
        let now = Timestamp::parse(&case.now).unwrap();
        let mut counts: Option<Expiry> = None;
        for came in &case.came {
            let came = Expiry::with_seq(Lifetime::from_seconds(came.seconds), came.seq).unwrap();
            if came.counts_after(counts.as_ref(), now) {
                counts = Some(came);
            }
        }
        let counts = counts.map(|expiry| ExpirySays {
            seconds: expiry.lifetime().map_or(0, |time| time.seconds().into()),
            seq: expiry.seq(),
        });
        assert_eq!(counts, case.counts, "{}", case.name);
    }
}

#[test]
fn files() {
    for case in cases::<FileCase>("files.json") {
        let content = Content::parse(&case.content).unwrap_or_else(|_| panic!("{}", case.name));
        let offer = FileOffer::read(&content).map(|offer| {
            let chunking = offer.chunking();
            json!({
                "name": offer.name(),
                "size": chunking.size(),
                "sha256": BASE64_STANDARD.encode(offer.sha256()),
                "chunk": chunking.chunk(),
                "key": BASE64_STANDARD.encode(offer.key().as_bytes()),
                "chunks": chunking.count(),
            })
        });
        let request = FileRequest::read(&content).map(|request| {
            let (have, first, until) = (request.have(), request.first(), request.until());
            json!({"file": request.file().to_string(), "have": have, "first": first, "until": until})
        });
        let chunk = FileChunk::read(&content).map(|chunk| {
            let data = BASE64_STANDARD.encode(chunk.data());
            json!({"file": chunk.file().to_string(), "index": chunk.index(), "data": data})
        });
        let end = FileEnd::read(&content)
            .map(|end| json!({"file": end.file.to_string(), "state": end.outcome.as_str()}));
        let came_out = [
            ("file", offer),
            ("file-request", request),
            ("file-chunk", chunk),
            ("file-end", end),
        ]
        .into_iter()
        .find_map(|(kind, says)| Some((kind, says?)));
        let (kind, says) = came_out.map_or(("other", None), |(kind, says)| (kind, Some(says)));
        assert_eq!(kind, case.expect, "{}", case.name);
        assert_eq!(says, case.says, "{}", case.name);
    }
}

#[test]
fn file_chunks() {
    for case in cases::<FileChunkCase>("file_chunks.json") {
        let key = FileKey::from_bytes(decode(&case.key).try_into().unwrap());
        let chunking = Chunking::new(case.size, case.chunk).unwrap();
        let opened = key.decrypt(chunking, case.index, &decode(&case.data));
        assert_eq!(opened.is_ok(), case.expect == "ok", "{}", case.name);
        assert_eq!(
            opened.as_ref().ok(),
            case.plaintext.as_deref().map(decode).as_ref(),
            "{}",
            case.name
        );
        if let Ok(plaintext) = opened {
            let sealed = key.encrypt(chunking, case.index, &plaintext).unwrap();
            assert_eq!(sealed, decode(&case.data), "{}", case.name);
        }
    }
}

#[test]
fn file_names() {
    for case in cases::<FileNameCase>("file_names.json") {
        assert_eq!(saved_name(&case.name), case.saved, "{:?}", case.name);
    }
}

#[test]
fn logins() {
    for case in cases::<LoginCase>("logins.json") {
        let (realm, user) = (
            Realm::parse(&case.realm).unwrap(),
            UserId::parse(&case.user).unwrap(),
        );
        let now = Timestamp::parse(&case.now).unwrap();
        let signed_in = LoginToken::parse(&case.token).and_then(|token| {
            token.verify(
                &realm,
                &user,
                &case.client_id,
                now,
                &decode(&case.channel_binding),
            )
        });
        assert_eq!(outcome::login(signed_in), case.expect, "{}", case.name);
    }
}

#[test]
fn invitations() {
    for case in cases::<InvitationCase>("invitations.json") {
        let (realm, user) = (
            Realm::parse(&case.realm).unwrap(),
            UserId::parse(&case.user).unwrap(),
        );
        let invitation = Invitation::parse(&case.invitation).unwrap();
        assert_eq!(invitation.key(), identity_key(&case.key), "{}", case.name);
        let accepted = match LoginPassword::parse(&case.password) {
            Ok(LoginPassword {
                acceptance: None, ..
            }) => "no-acceptance".to_owned(),
            Ok(LoginPassword {
                token,
                acceptance: Some(acceptance),
            }) => {
                let verified = acceptance.verify(&invitation.key(), &realm, &user, &token);
                if verified.is_ok() {
                    let again = invitation.accept(&realm, &user, &token);
                    let (bare, _) = case.password.split_once('.').unwrap();
                    assert_eq!(LoginPassword::join(bare, &again), case.password);
                }
                outcome::login(verified.map_err(|_| LoginError::BadSignature))
            }
            Err(error) => outcome::login::<()>(Err(error)),
        };
        assert_eq!(accepted, case.expect, "{}", case.name);
    }
}

#[test]
fn uris() {
    for case in cases::<UriCase>("uris.json") {
        let key = |key: &IdentityKey| Some(key.to_base64());
        let outcome = if case.what == "contact" {
            let parsed = ContactLink::parse(&case.text);
            if let Ok(link) = &parsed {
                assert_eq!(link.to_string(), case.text, "{}", case.name);
                assert_eq!(Some(link.realm.to_string()), case.realm);
                assert_eq!(Some(link.user.to_string()), case.user);
                assert_eq!(key(&link.identity), case.identity);
                assert_eq!(Some(link.broker()), case.broker.as_deref());
            }
            outcome::uri(parsed)
        } else {
            let parsed = Verification::parse(&case.text);
            if let Ok(text) = &parsed {
                assert_eq!(text.to_string(), case.text, "{}", case.name);
                assert_eq!(Some(text.realm.to_string()), case.realm);
                assert_eq!(Some(text.user.to_string()), case.user);
                assert_eq!(key(&text.identity), case.identity);
                assert_eq!(Some(text.contact.to_string()), case.contact);
                assert_eq!(key(&text.sees), case.sees);
                assert_eq!(text.mirrored().mirrored(), *text);
                assert_ne!(text.mirrored(), *text);
            }
            outcome::uri(parsed)
        };
        assert_eq!(outcome, case.expect, "{} {}", case.what, case.name);
    }
}

#[test]
fn safety_numbers() {
    for case in cases::<SafetyCase>("safety_numbers.json") {
        let realm = Realm::parse(&case.realm).unwrap();
        let [one, other] = case.parties.map(|party| {
            (
                UserId::parse(&party.user).unwrap(),
                identity_key(&party.identity),
            )
        });
        let number = SafetyNumber::of(&realm, (&one.0, &one.1), (&other.0, &other.1));
        assert_eq!(number.to_string(), case.number, "{}", case.name);
        assert_eq!(
            SafetyNumber::parse(&case.number),
            Ok(number),
            "{}",
            case.name
        );
    }
}
