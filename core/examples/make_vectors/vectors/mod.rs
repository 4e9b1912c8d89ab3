//! All vectors, as the texts of their files.

mod bundle;
mod bundles;
pub(crate) mod cases;
mod content;
mod conversation;
mod envelope;
mod envelopes;
mod files;
mod invitations;
mod keys;
mod logins;
mod malformed_bundles;
mod malformed_envelopes;
mod names;
mod openings;
mod people;
mod readings;
mod safety;
mod trust;
mod uris;
mod wire;

use serde::Serialize;

use cases::File;

/// The name and the text of every file.
pub(crate) fn all() -> Vec<(&'static str, String)> {
    let mut files = Vec::new();
    let mut add = |name, text| files.push((name, text));
    add(
        "people.json",
        file(
            "The people of all the other files, with their secrets.",
            people::all(),
        ),
    );
    add(
        "names.json",
        file(
            "Names, topics, filters, times and message ids: which texts are accepted.",
            names::all(),
        ),
    );
    add(
        "transcripts.json",
        file(
            "What signatures, key ids and associated data cover, field by field.",
            wire::all(),
        ),
    );
    add(
        "identity_keys.json",
        file("Which 32 bytes are an identity key.", keys::identity_keys()),
    );
    add(
        "signatures.json",
        file("Which signatures hold.", keys::signatures()),
    );
    add(
        "encryption_keys.json",
        file("Which DER is an encryption key.", keys::encryption_keys()),
    );
    add(
        "key_ids.json",
        file(
            "The id of a key: realm, owner's identity and SPKI.",
            keys::key_ids(),
        ),
    );
    add(
        "bundles.json",
        file(
            "Key bundles: whole or not, at any time, whoever's.",
            bundles::all(),
        ),
    );
    add(
        "trust.json",
        file(
            "What a bundle means for what is known of its owner.",
            trust::all(),
        ),
    );
    add(
        "envelopes.json",
        file(
            "Envelopes: well-formed or not. No secret is needed.",
            envelopes::all(),
        ),
    );
    add(
        "openings.json",
        file(
            "Well-formed envelopes: opened or not, by whom, after what.",
            openings::all(),
        ),
    );
    add(
        "padding.json",
        file(
            "The length to which a plaintext is padded.",
            content::padding(),
        ),
    );
    add(
        "content.json",
        file(
            "Plaintexts, padding included: what they say.",
            content::contents(),
        ),
    );
    add(
        "readings.json",
        file(
            "Contents: readings of a device, gaps of them, or neither.",
            readings::all(),
        ),
    );
    add(
        "conversation.json",
        file(
            "Contents: answers, edits, deletions, how long messages stay, or none of these.",
            conversation::all(),
        ),
    );
    add(
        "expiries.json",
        file(
            "Settings of how long messages stay, in the order they came: which one counts.",
            conversation::expiries(),
        ),
    );
    add(
        "files.json",
        file(
            "Contents: offers of files, requests, chunks, ends, or none of them.",
            files::contents(),
        ),
    );
    add(
        "file_chunks.json",
        file(
            "Chunks of files: opened at their place or not.",
            files::chunks(),
        ),
    );
    add(
        "file_names.json",
        file("The name under which a file is saved.", files::names()),
    );
    add(
        "logins.json",
        file("Login tokens: signing in or not.", logins::all()),
    );
    add(
        "invitations.json",
        file(
            "Invitations, accepted with a login token or not.",
            invitations::all(),
        ),
    );
    add(
        "safety_numbers.json",
        file("The sixty digits that two people compare.", safety::all()),
    );
    add(
        "uris.json",
        file(
            "Contact links and verification texts: whole or not.",
            uris::all(),
        ),
    );
    files
}

/// A file's text.
fn file<C: Serialize>(about: &str, cases: Vec<C>) -> String {
    let file = File {
        about: about.to_owned(),
        cases,
    };
    serde_json::to_string_pretty(&file).unwrap() + "\n"
}
