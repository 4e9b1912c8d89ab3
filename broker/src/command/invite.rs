//! `invite`: makes an invitation, which lets its holder claim a name.

use std::io::Write;
use std::time::Duration;

use sealpost_core::{Invitation, Timestamp};
use serde::Serialize;

use super::GlobalArguments;
use super::failure::{Code, Failure};
use super::span;
use super::target::Target;
use crate::clock;
use crate::control::request::Request;
use sealpost_service::seconds;

/// How long an invitation may wait: one that is forgotten in a drawer is not to open the door for ever.
const LONGEST: Duration = Duration::from_secs(90 * 24 * 60 * 60);

#[derive(Debug, clap::Args)]
pub(super) struct InviteArguments {
    /// The name that it lets claim.
    #[arg(value_name = "USER")]
    user: String,
    #[command(flatten)]
    invitation: InvitationArguments,
}

/// What `invite` and `users reset-identity` take.
#[derive(Debug, clap::Args)]
pub(super) struct InvitationArguments {
    /// How long the invitation may wait: a number and s, m, h or d; at most 90d.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = parse_expiry)]
    expires: Duration,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

/// An invitation for programs.
#[derive(Serialize)]
struct Offered<'a> {
    user: &'a str,
    invitation: &'a str,
    #[serde(with = "seconds")]
    expires: Timestamp,
}

impl InvitationArguments {
    /// Makes an invitation and has its public half known; prints the secret if that was done.
    pub(super) fn offer(
        &self,
        target: &mut Target,
        user: &str,
        request: impl FnOnce(String, Timestamp) -> Request,
    ) -> Result<(), Failure> {
        let invitation = Invitation::generate(&mut rand::rng());
        let expires = clock::now().saturating_add(self.expires);
        target.ask(&request(invitation.key().to_base64(), expires), |_| {})?;
        let secret = invitation.to_secret_text();
        let mut stdout = std::io::stdout();
        let printed = if self.json {
            let offered = Offered {
                user,
                invitation: secret.as_str(),
                expires,
            };
            serde_json::to_writer(&mut stdout, &offered)
                .map_err(std::io::Error::from)
                .and_then(|()| writeln!(stdout))
        } else {
            eprintln!(
                "An invitation for {user}, good once and for {}. Whoever has it can be {user}: hand it over as you would a \
                 password. {user} uses it with the first command that connects, with this broker's --broker and --realm where they are \
                 not the defaults:\n  SEALPOST_INVITATION=<it> sealpost --user {user} keys init\n\
                 Whoever has keys already takes another one: … sealpost --user {user} listen",
                span::tell(self.expires),
            );
            writeln!(stdout, "{}", secret.as_str())
        };
        printed.and_then(|()| stdout.flush()).map_err(|error| {
            Failure::new(
                Code::Failed,
                format!("the invitation could not be printed: {error}"),
                "make another one, which voids this one",
            )
        })
    }
}

/// Offers a name.
pub(super) fn run(global: GlobalArguments, arguments: InviteArguments) -> Result<(), Failure> {
    let InviteArguments { user, invitation } = arguments;
    let mut target = Target::find(global)?;
    invitation.offer(&mut target, &user, |key, expires| Request::Invite {
        user: user.clone(),
        key,
        expires,
    })
}

fn parse_expiry(text: &str) -> Result<Duration, String> {
    let expiry = span::parse(text)?;
    if expiry > LONGEST {
        return Err("at most 90d".into());
    }
    Ok(expiry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_waits_for_ninety_days_at_most() {
        assert_eq!(parse_expiry("90d"), Ok(LONGEST));
        assert!(parse_expiry("91d").is_err());
    }
}
