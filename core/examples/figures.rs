//! Prints what messages take: `sizes` on the wire, which are the same everywhere, and `costs` in time, on this machine.
//!
//! ```sh
//! cargo run -q -p sealpost-core --example figures -- sizes
//! cargo run -q --release -p sealpost-core --example figures -- costs
//! ```

use std::error::Error;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use sealpost_core::{
    BundleFields, BurstCache, Content, DecryptionKey, Envelope, Identity, KeyBundle, MessageId,
    Realm, Recipient, RsaDecryptionKey, Sealer, Seen, Timestamp, UserId, open, padded_length,
};

/// Keys of 2,048, 3,072 and 4,096 bits, as PKCS #8. Published, so worth nothing.
const KEYS: [(u32, &str); 3] = [
    (
        2_048,
        include_str!("make_vectors/vectors/rsa/bob-before.pkcs8.base64"),
    ),
    (
        3_072,
        include_str!("make_vectors/vectors/rsa/bob.pkcs8.base64"),
    ),
    (
        4_096,
        include_str!("make_vectors/vectors/rsa/carol.pkcs8.base64"),
    ),
];
/// Lengths of contents, in bytes.
const CONTENTS: [usize; 5] = [256, 1_000, 5_000, 40_000, 65_536];
/// How often each thing is done to be measured; the median counts.
const TIMES: usize = 200;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A sensor and its gateway, whose names and realm are of usual lengths.
struct Pair {
    sensor: Identity,
    gateway: Identity,
    rsa: RsaDecryptionKey,
    bundle: KeyBundle,
    now: Timestamp,
}

struct NothingSeen;

impl Seen for NothingSeen {
    fn contains(&self, _: &UserId, _: &MessageId) -> bool {
        false
    }

    fn floor(&self, _: &UserId) -> Option<Timestamp> {
        None
    }
}

impl Pair {
    fn new(pkcs8: &str) -> Result<Pair> {
        let base64: String = pkcs8.split_whitespace().collect();
        let rsa = RsaDecryptionKey::from_pkcs8_der(
            &BASE64_STANDARD.decode(base64).map_err(|_| "not base64")?,
        )?;
        let (sensor, gateway) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
        let now = Timestamp::parse("1700000000.123")?;
        let fields = BundleFields {
            realm: Realm::default(),
            user: UserId::parse("gateway")?,
            seq: now.seconds(),
            created: now,
            expires: now.saturating_add(Duration::from_secs(365 * 86_400)),
            encryption: vec![rsa.encryption_key().clone()],
            links: Vec::new(),
        };
        let bundle = KeyBundle::sign(fields, &gateway)?;
        Ok(Pair {
            sensor,
            gateway,
            rsa,
            bundle,
            now,
        })
    }

    fn sealer(&self, burst: bool) -> Result<Sealer> {
        let from = UserId::parse("sensor")?;
        let make = if burst { Sealer::burst } else { Sealer::new };
        Ok(make(&self.sensor, &from, &self.bundle)?)
    }

    /// Seals a content of this length, which has a message before it.
    fn seal(&self, sealer: &mut Sealer, rng: &mut ChaCha20Rng, length: usize) -> Result<Envelope> {
        let frame = r#"{"kind":"text","text":""}"#.len();
        let text = "x".repeat(length.saturating_sub(frame));
        let (id, prev) = (MessageId::new(self.now, rng), MessageId::new(self.now, rng));
        Ok(sealer.seal(rng, self.now, id, Some(prev), &Content::Text { text })?)
    }

    fn open(&self, envelope: &Envelope, cache: &mut BurstCache) -> Result<Content> {
        let (realm, user) = (Realm::default(), UserId::parse("gateway")?);
        let me = Recipient {
            realm: &realm,
            user: &user,
            identity: &self.gateway.key(),
            keys: &[&self.rsa],
        };
        Ok(open(
            envelope,
            &me,
            &self.sensor.key(),
            &NothingSeen,
            cache,
        )?)
    }
}

/// The table of sizes, in Markdown.
pub(crate) fn sizes() -> Result<String> {
    let mut table = String::from("| bytes | RSA-2048 | RSA-3072 | RSA-4096 |\n|---|---|---|---|\n");
    let pairs = KEYS
        .iter()
        .map(|(_, key)| Pair::new(key))
        .collect::<Result<Vec<Pair>>>()?;
    let mut row = |name: String, value: &dyn Fn(&Pair) -> Result<usize>| -> Result<()> {
        write!(table, "| {name} |")?;
        for pair in &pairs {
            write!(table, " {} |", thousands(value(pair)?))?;
        }
        table.push('\n');
        Ok(())
    };
    row("SubjectPublicKeyInfo, DER".into(), &|pair| {
        Ok(pair.rsa.encryption_key().spki_der().len())
    })?;
    row("key bundle".into(), &|pair| {
        Ok(pair.bundle.as_bytes().len())
    })?;
    row("`enc_key`, raw".into(), &|pair| {
        Ok(pair.rsa.encryption_key().modulus_len())
    })?;
    for length in CONTENTS {
        let up_to = if length == 256 { "up to " } else { "" };
        let name = format!(
            "envelope, content {up_to}{} (padded {})",
            thousands(length),
            thousands(padded_length(length))
        );
        row(name, &|pair| {
            let mut rng = ChaCha20Rng::seed_from_u64(1);
            Ok(pair
                .seal(&mut pair.sealer(false)?, &mut rng, length)?
                .as_bytes()
                .len())
        })?;
    }
    Ok(table)
}

fn thousands(number: usize) -> String {
    if number < 1_000 {
        number.to_string()
    } else {
        format!("{},{:03}", number / 1_000, number % 1_000)
    }
}

/// The median time of a run, in microseconds.
fn micros(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let begun = Instant::now();
        run()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times
        .get(TIMES / 2)
        .map_or(0.0, |median| median.as_secs_f64() * 1e6))
}

/// The table of times, in Markdown.
fn costs() -> Result<String> {
    let mut table = String::from(
        "| µs for a content of 256 bytes | RSA-2048 | RSA-3072 | RSA-4096 |\n|---|---|---|---|\n",
    );
    let mut rows = [
        "seal, a key of its own",
        "seal, in a burst",
        "parse and open, first of a burst",
        "parse and open, later in a burst",
        "parse a bundle and check it",
    ]
    .map(|name| format!("| {name} |"));
    for (_, key) in KEYS {
        let pair = Pair::new(key)?;
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let (mut alone, mut burst) = (pair.sealer(false)?, pair.sealer(true)?);
        let sealed = pair.seal(&mut burst, &mut rng, 256)?.as_bytes().to_vec();
        let mut warm = BurstCache::new();
        pair.open(&Envelope::parse(&sealed)?, &mut warm)?;
        let found = [
            micros(|| pair.seal(&mut alone, &mut rng, 256).map(drop))?,
            micros(|| pair.seal(&mut burst, &mut rng, 256).map(drop))?,
            micros(|| {
                pair.open(&Envelope::parse(&sealed)?, &mut BurstCache::new())
                    .map(drop)
            })?,
            micros(|| pair.open(&Envelope::parse(&sealed)?, &mut warm).map(drop))?,
            micros(|| {
                KeyBundle::parse(pair.bundle.as_bytes())?;
                Ok(())
            })?,
        ];
        for (row, time) in rows.iter_mut().zip(found) {
            write!(row, " {time:.0} |")?;
        }
    }
    for row in rows {
        writeln!(table, "{row}")?;
    }
    Ok(table)
}

#[allow(dead_code)] // the test of the page takes this file in
fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("sizes") => print!("{}", sizes()?),
        Some("costs") => print!("{}", costs()?),
        _ => return Err("say `sizes` or `costs`".into()),
    }
    Ok(())
}
