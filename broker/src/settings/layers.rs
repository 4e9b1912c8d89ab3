//! Where settings are spelled: in a file and in the environment, which wins over it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use config::{Config, ConfigError};

use super::unknown_key::{self, Unknown};
use super::{SettingsError, Spelled};

/// What the variables begin with.
pub(super) const PREFIX: &str = "SEALPOST_BROKER_";

/// Bytes of the largest file of settings; a thousand archivers have 100 KiB.
const MAX_FILE: u64 = 1024 * 1024;

/// Keys that name files. A relative one that a file spells is relative to that file's folder, wherever the broker is started.
const PATHS: [&str; 5] = [
    "data",
    "rules",
    "tls.certificate",
    "tls.key",
    "tls.client_ca",
];

/// Reads the file, if there is one, and the environment.
pub(super) fn read(file: Option<&Path>) -> Result<Spelled, SettingsError> {
    let text = file.map(read_file).transpose()?;
    let environment = Environment::of(std::env::vars_os());
    let mut unknown = match (file, &text) {
        (Some(file), Some(text)) => unknown_key::in_file(file, text),
        _ => Vec::new(),
    };
    unknown.extend(environment.unknown);
    if !unknown.is_empty() {
        return Err(SettingsError::Unknown(Unknown(unknown)));
    }
    let mut builder = Config::builder();
    if let Some(file) = file {
        builder = builder.add_source(layer(file)?);
    }
    let environment = config::Environment::with_prefix("SEALPOST_BROKER")
        .prefix_separator("_")
        .separator("__")
        .try_parsing(true)
        .source(Some(environment.known));
    Ok(builder.add_source(environment).build()?.try_deserialize()?)
}

fn read_file(path: &Path) -> Result<String, SettingsError> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text));
    let read = read.and_then(|length| {
        if u64::try_from(length).unwrap_or(u64::MAX) > MAX_FILE {
            return Err(io::Error::other(format!(
                "it has more than {MAX_FILE} bytes"
            )));
        }
        Ok(text)
    });
    read.map_err(|why| SettingsError::File {
        path: path.to_owned(),
        why,
    })
}

/// What the file says, with its paths as seen from here.
fn layer(path: &Path) -> Result<Config, ConfigError> {
    let file = config::File::from(path).format(config::FileFormat::Toml);
    let said = Config::builder().add_source(file).build()?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut builder = Config::builder().add_source(said.clone());
    for key in PATHS {
        // What is not there, or no text, is for others to complain of.
        if let Ok(value) = said.get::<String>(key) {
            let value = folder.join(value).into_os_string().into_string();
            let value = value.map_err(|_| {
                ConfigError::Message(format!("{key}: the folder of {path:?} is not in UTF-8"))
            })?;
            builder = builder.set_override(key, value)?;
        }
    }
    builder.build()
}

/// The variables that are for the broker.
#[derive(Debug, Default)]
struct Environment {
    known: HashMap<String, String>,
    unknown: Vec<unknown_key::UnknownKey>,
}

impl Environment {
    fn of(all: impl Iterator<Item = (OsString, OsString)>) -> Environment {
        let mut environment = Environment::default();
        let known = unknown_key::variables();
        for (name, value) in all {
            let Ok(name) = name.into_string() else {
                continue;
            };
            let Some(key) = name.strip_prefix(PREFIX) else {
                continue;
            };
            if known.iter().any(|known| known == key) {
                // Bytes that are no text make a value that no key takes, which is then complained of.
                let value = value.to_string_lossy().into_owned();
                environment.known.insert(name, value);
            } else if let Some(unknown) = unknown_key::in_environment(key, &known) {
                environment.unknown.push(unknown);
            }
        }
        environment.unknown.sort_by_key(ToString::to_string);
        environment
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(names: &[&str]) -> (Vec<String>, Vec<String>) {
        let all = names.iter().map(|name| ((*name).into(), "1".into()));
        let Environment { known, unknown } = Environment::of(all);
        let mut known = known.into_keys().collect::<Vec<_>>();
        known.sort();
        (known, unknown.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn variables_of_others_that_begin_alike_are_left_alone() {
        let (known, unknown) = environment(&[
            "SEALPOST_BROKER_REALM",
            "SEALPOST_BROKER_LIMITS__HOLD",
            "SEALPOST_BROKER_LIMITS__ADDRESS__CONNECTS",
            // An orchestrator sets these for a service of that name.
            "SEALPOST_BROKER_PORT",
            "SEALPOST_BROKER_PORT_1883_TCP_ADDR",
            "SEALPOST_BROKER_SERVICE_HOST",
            "SEALPOST_BROKER_SERVICE_PORT_MQTT",
            "SEALPOST_BROKER_PATH",
            "SEALPOST_BROKER_IMAGE",
            "SEALPOST_USER",
            "HOME",
        ]);
        assert_eq!(
            known,
            [
                "SEALPOST_BROKER_LIMITS__ADDRESS__CONNECTS",
                "SEALPOST_BROKER_LIMITS__HOLD",
                "SEALPOST_BROKER_REALM"
            ]
        );
        assert_eq!(unknown, [""; 0]);
    }

    #[test]
    fn a_mistyped_variable_is_refused_with_the_one_that_was_meant() {
        for (name, meant) in [
            ("LIMTS__HOLD", "did you mean SEALPOST_BROKER_LIMITS__HOLD?"),
            ("LIMITS_HOLD", "did you mean SEALPOST_BROKER_LIMITS__HOLD?"),
            ("HOLD", "did you mean SEALPOST_BROKER_LIMITS__HOLD?"),
            ("RELAM", "did you mean SEALPOST_BROKER_REALM?"),
            (
                "METRICS_LISTEN",
                "did you mean SEALPOST_BROKER_METRICS__LISTEN?",
            ),
            ("COFFEE__MILK", "is no setting"),
            ("ARCHIVERS", "only in the file"),
            ("TLS", "only in the file"),
        ] {
            let name = format!("SEALPOST_BROKER_{name}");
            let (known, unknown) = environment(&[&name]);
            assert_eq!(known, [""; 0]);
            assert!(unknown[0].contains(&name), "{unknown:?}");
            assert!(unknown[0].contains(meant), "{unknown:?}");
        }
    }

    #[test]
    fn paths_in_a_file_are_relative_to_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("broker.toml");
        let text = "data = \"d\"\nrules = \"/r\"\n[tls]\ncertificate = \"c/c.pem\"\nkey = \"../k\"";
        std::fs::write(&file, text).unwrap();
        let spelled = read(Some(&file)).unwrap();
        assert_eq!(spelled.data, dir.path().join("d"));
        assert_eq!(spelled.rules, Some("/r".into()));
        let tls = spelled.tls.unwrap();
        assert_eq!(tls.certificate, dir.path().join("c/c.pem"));
        assert_eq!(tls.key, dir.path().join("../k"));
        assert_eq!(tls.client_ca, None);
        // Nobody said anything.
        std::fs::write(&file, "").unwrap();
        assert_eq!(
            read(Some(&file)).unwrap().data,
            Path::new("sealpost-broker")
        );
    }

    #[test]
    fn a_file_that_is_none_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        for (path, why) in [
            (dir.path().to_owned(), "directory"),
            (dir.path().join("broker"), "No such file"),
        ] {
            // Not guessed at by its name without the extension.
            std::fs::write(dir.path().join("broker.toml"), "").unwrap();
            let error = read(Some(&path)).unwrap_err().to_string();
            assert!(
                error.contains(path.to_str().unwrap()) && error.contains(why),
                "{error}"
            );
        }
    }
}
