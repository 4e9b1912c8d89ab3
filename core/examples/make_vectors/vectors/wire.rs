//! The formats, written down a second time: transcripts, and objects whose every member can be spoiled.

use sha2::{Digest as _, Sha256};

use super::bundle::{Bundle, Link};
use super::cases::{TranscriptCase, TranscriptField};
use super::envelope::Plan;
use super::people::{DAY, NOW, Person, REALM, alice, base64, bob, bob_before};

/// A transcript that remembers what its fields are called.
#[derive(Clone)]
pub(crate) struct Transcript {
    label: &'static str,
    fields: Vec<(String, Vec<u8>)>,
}

impl Transcript {
    pub(crate) fn new(label: &'static str) -> Self {
        Self {
            label,
            fields: Vec::new(),
        }
    }

    pub(crate) fn field(mut self, name: impl Into<String>, bytes: impl AsRef<[u8]>) -> Self {
        self.fields.push((name.into(), bytes.as_ref().to_vec()));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let fields = self.fields.iter().map(|(_, field)| field.as_slice());
        for field in std::iter::once(self.label.as_bytes()).chain(fields) {
            bytes.extend_from_slice(&(field.len() as u32).to_be_bytes());
            bytes.extend_from_slice(field);
        }
        bytes
    }

    fn case(&self, name: &str, signer: Option<&Person>) -> TranscriptCase {
        let bytes = self.bytes();
        let field = |(name, bytes): &(String, Vec<u8>)| TranscriptField {
            field: name.clone(),
            hex: hex(bytes),
        };
        TranscriptCase {
            name: name.to_owned(),
            label: self.label.to_owned(),
            fields: self.fields.iter().map(field).collect(),
            hex: hex(&bytes),
            sha256_hex: hex(&Sha256::digest(&bytes)),
            signer: signer.map(|signer| signer.name.to_owned()),
            signature: signer.map(|signer| base64(signer.sign(&bytes))),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An object's members with the raw text of each.
#[derive(Clone)]
pub(crate) struct Members(pub(crate) Vec<(String, String)>);

impl Members {
    /// `{"name":value,…}`
    pub(crate) fn text(&self) -> String {
        let members: Vec<_> = self
            .0
            .iter()
            .map(|(name, value)| format!("\"{name}\":{value}"))
            .collect();
        format!("{{{}}}", members.join(","))
    }

    /// With white space, as people would write it.
    pub(crate) fn spaced(&self) -> String {
        let members: Vec<_> = self
            .0
            .iter()
            .map(|(name, value)| format!("\"{name}\": {value}"))
            .collect();
        format!("{{{}}}", members.join(", "))
    }

    fn index(&self, name: &str) -> usize {
        self.0
            .iter()
            .position(|(member, _)| member == name)
            .unwrap()
    }

    pub(crate) fn raw(&self, name: &str) -> &str {
        &self.0[self.index(name)].1
    }

    pub(crate) fn with(mut self, name: &str, raw: impl Into<String>) -> Self {
        let index = self.index(name);
        self.0[index].1 = raw.into();
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.remove(self.index(name));
        self
    }

    pub(crate) fn renamed(mut self, name: &str, new: &str) -> Self {
        let index = self.index(name);
        self.0[index].0 = new.to_owned();
        self
    }

    pub(crate) fn inserted(mut self, index: usize, name: &str, raw: &str) -> Self {
        self.0.insert(index, (name.to_owned(), raw.to_owned()));
        self
    }

    pub(crate) fn swapped(mut self, one: &str, other: &str) -> Self {
        let (one, other) = (self.index(one), self.index(other));
        self.0.swap(one, other);
        self
    }
}

/// A JSON string that needs no escapes.
pub(crate) fn quoted(text: impl std::fmt::Display) -> String {
    format!("\"{text}\"")
}

pub(crate) fn all() -> Vec<TranscriptCase> {
    let (alice, bob, before) = (alice(), bob(), bob_before());
    let link = Link::sign(&before, &bob, NOW);
    let bundle = Bundle::of(&bob);
    let linked = Bundle {
        links: vec![link.clone()],
        ..bundle.clone()
    };
    let unknown = Bundle {
        encryption: vec![
            ("X-Wing".to_owned(), vec![1, 2, 3]),
            ("RSA-OAEP-256".to_owned(), bob.spki()),
        ],
        ..bundle.clone()
    };
    let first = Plan::new(&alice, &bob).seal();
    let second = Plan {
        prev: Some(first.id),
        seed: 2,
        ..Plan::new(&alice, &bob)
    }
    .seal();
    vec![
        Transcript::new("sealpost/1 key")
            .field("realm", REALM)
            .field("identity", bob.identity())
            .field("SPKI", bob.spki())
            .case("key id", None),
        link.transcript(REALM, "bob").case("link", Some(&before)),
        bundle.transcript().case("bundle", Some(&bob)),
        linked.transcript().case("bundle with a link", Some(&bob)),
        unknown
            .transcript()
            .case("bundle with a key of an unknown algorithm", Some(&bob)),
        Bundle {
            encryption: vec![],
            created: NOW + DAY,
            ..bundle
        }
        .transcript()
        .case("bundle of somebody who retired", Some(&bob)),
        first
            .header("sealpost/1 aad")
            .case("associated data of a first message", None),
        second
            .header("sealpost/1 aad")
            .case("associated data of a second message", None),
        first.transcript().case("envelope", Some(&alice)),
        super::logins::transcript(&alice, REALM, "alice", "laptop", NOW, [7; 16], b"exporter")
            .case("login", Some(&alice)),
        super::logins::transcript(&alice, REALM, "alice", "", NOW, [7; 16], b"")
            .case("login without client id and channel binding", Some(&alice)),
        super::safety::transcript(REALM, "alice", &alice.identity())
            .case("safety number, before the rounds", None),
    ]
}
