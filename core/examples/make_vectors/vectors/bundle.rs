//! Key bundles as drafts: everything in them can be spoiled before they are signed.

use super::people::{DAY, NOW, Person, REALM, base64, bob, time};
use super::wire::{Members, Transcript, quoted};

/// An identity change.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) old: [u8; 32],
    pub(crate) new: [u8; 32],
    pub(crate) at: u64,
    pub(crate) sig: [u8; 64],
}

impl Link {
    pub(crate) fn sign(old: &Person, new: &Person, at: u64) -> Self {
        Self::sign_for(REALM, "bob", old, new, at)
    }

    pub(crate) fn sign_for(realm: &str, user: &str, old: &Person, new: &Person, at: u64) -> Self {
        let mut link = Self {
            old: old.identity(),
            new: new.identity(),
            at,
            sig: [0; 64],
        };
        link.sig = old.sign(&link.transcript(realm, user).bytes());
        link
    }

    pub(crate) fn transcript(&self, realm: &str, user: &str) -> Transcript {
        Transcript::new("sealpost/1 link")
            .field("realm", realm)
            .field("user", user)
            .field("old", self.old)
            .field("new", self.new)
            .field("at", self.at.to_be_bytes())
    }

    pub(crate) fn members(&self) -> Members {
        Members(vec![
            ("old".to_owned(), quoted(base64(self.old))),
            ("new".to_owned(), quoted(base64(self.new))),
            ("at".to_owned(), time(self.at)),
            ("sig".to_owned(), quoted(base64(self.sig))),
        ])
    }
}

/// A bundle before it is signed.
#[derive(Clone)]
pub(crate) struct Bundle {
    pub(crate) owner: Person,
    pub(crate) realm: String,
    pub(crate) user: String,
    pub(crate) seq: u64,
    pub(crate) created: u64,
    pub(crate) expires: u64,
    pub(crate) encryption: Vec<(String, Vec<u8>)>,
    pub(crate) links: Vec<Link>,
}

impl Bundle {
    pub(crate) fn of(owner: &Person) -> Self {
        let encryption = match owner.rsa {
            Some(_) => vec![("RSA-OAEP-256".to_owned(), owner.spki())],
            None => vec![],
        };
        Self {
            owner: owner.clone(),
            realm: REALM.to_owned(),
            user: owner.user.to_owned(),
            seq: NOW / 1_000,
            created: NOW,
            expires: NOW + 365 * DAY,
            encryption,
            links: vec![],
        }
    }

    pub(crate) fn transcript(&self) -> Transcript {
        let count = |length: usize| (length as u32).to_be_bytes();
        let mut transcript = Transcript::new("sealpost/1 bundle")
            .field("v", [1])
            .field("realm", &self.realm)
            .field("user", &self.user)
            .field("seq", self.seq.to_be_bytes())
            .field("created", self.created.to_be_bytes())
            .field("expires", self.expires.to_be_bytes())
            .field("identity", self.owner.identity())
            .field("number of encryption keys", count(self.encryption.len()));
        for (index, (algorithm, key)) in self.encryption.iter().enumerate() {
            let number = index + 1;
            transcript = transcript
                .field(format!("encryption {number}: alg"), algorithm)
                .field(format!("encryption {number}: key"), key);
        }
        transcript = transcript.field("number of links", count(self.links.len()));
        for (index, link) in self.links.iter().enumerate() {
            let number = index + 1;
            transcript = transcript
                .field(format!("link {number}: old"), link.old)
                .field(format!("link {number}: new"), link.new)
                .field(format!("link {number}: at"), link.at.to_be_bytes())
                .field(format!("link {number}: sig"), link.sig);
        }
        transcript
    }

    pub(crate) fn members(&self) -> Members {
        let key = |(algorithm, key): &(String, Vec<u8>)| {
            format!(
                "{{\"alg\":{},\"key\":{}}}",
                quoted(algorithm),
                quoted(base64(key))
            )
        };
        let keys: Vec<_> = self.encryption.iter().map(key).collect();
        let links: Vec<_> = self
            .links
            .iter()
            .map(|link| link.members().text())
            .collect();
        let member = |name: &str, raw: String| (name.to_owned(), raw);
        Members(vec![
            member("v", "1".to_owned()),
            member("realm", quoted(&self.realm)),
            member("user", quoted(&self.user)),
            member("seq", self.seq.to_string()),
            member("created", time(self.created)),
            member("expires", time(self.expires)),
            member("identity", quoted(base64(self.owner.identity()))),
            member("encryption", format!("[{}]", keys.join(","))),
            member("links", format!("[{}]", links.join(","))),
            member(
                "sig",
                quoted(base64(self.owner.sign(&self.transcript().bytes()))),
            ),
        ])
    }

    pub(crate) fn text(&self) -> String {
        self.members().text()
    }
}

/// An entry of `encryption`.
pub(crate) fn rsa(spki: Vec<u8>) -> (String, Vec<u8>) {
    ("RSA-OAEP-256".to_owned(), spki)
}

/// Many different people.
pub(crate) fn strangers(count: u8) -> Vec<Person> {
    let stranger = |seed| Person {
        secret: ed25519_dalek::SigningKey::from_bytes(&[seed; 32]),
        ..bob()
    };
    (100..100 + count).map(stranger).collect()
}

/// A chain of links through all of them.
pub(crate) fn chain(people: &[Person]) -> Vec<Link> {
    people
        .windows(2)
        .map(|pair| Link::sign(&pair[0], &pair[1], NOW))
        .collect()
}
