//! `torchctl token`, which makes, lists and revokes tokens, and `torchctl whoami`.

use std::process::ExitCode;

use super::arguments::{CreateArguments, RoleChoice, TokenCommand};
use super::connection::Connection;
use super::failure::Failure;
use super::output::{Output, tell};
use super::table;
use crate::proto::v1;

/// Tokens of an answer.
const PAGE: i32 = 1000;

pub(super) async fn token(connection: Connection, output: Output, command: TokenCommand) -> Result<ExitCode, Failure> {
    match command {
        TokenCommand::Create(arguments) => create(connection, output, arguments).await?,
        TokenCommand::List => list(connection, output).await?,
        TokenCommand::Revoke { name } => revoke(connection, output, &name).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(connection: Connection, output: Output, arguments: CreateArguments) -> Result<(), Failure> {
    let CreateArguments { name: token_id, role, owner, ttl } = arguments;
    let ttl = ttl.map(|ttl| prost_types::Duration::try_from(*ttl)).transpose();
    let ttl = ttl.map_err(|error| Failure::Mistake(format!("--ttl: {error}")))?;
    let role = v1::Role::from(role).into();
    let request = v1::CreateTokenRequest { token_id, role, owner: owner.unwrap_or_default(), ttl };
    let answer = connection.tokens().create_token(request).await?.into_inner();
    // Nothing but the secret: it may go into a file.
    output.print(&answer, |answer| format!("{}\n", answer.secret))?;
    if !output.is_json()
        && let Some(v1::Token { name, owner, role, .. }) = &answer.token
    {
        tell(&format!("{name} acts as {owner}, with the role {}; its secret is shown this once", role_of(*role)));
    }
    Ok(())
}

async fn list(connection: Connection, output: Output) -> Result<(), Failure> {
    let mut all = v1::ListTokensResponse::default();
    loop {
        let request = v1::ListTokensRequest { page_size: PAGE, page_token: all.next_page_token };
        let page = connection.tokens().list_tokens(request).await?.into_inner();
        all.tokens.extend(page.tokens);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
    }
    output.print(&all, |all| {
        let rows: Vec<_> = all.tokens.iter().map(row).collect();
        let heading = ["TOKEN", "ROLE", "OWNER", "CREATED", "EXPIRES", "REVOKED"];
        table::columns_but_empty(heading, &rows, &["REVOKED"])
    })
}

fn row(token: &v1::Token) -> [String; 6] {
    let expires = if token.expire_time.is_some() { table::time(token.expire_time) } else { "never".to_owned() };
    [
        token.name.trim_start_matches("tokens/").to_owned(),
        role_of(token.role),
        token.owner.clone(),
        table::time(token.create_time),
        expires,
        table::time(token.revoke_time),
    ]
}

async fn revoke(connection: Connection, output: Output, name: &str) -> Result<(), Failure> {
    let name = if name.starts_with("tokens/") { name.to_owned() } else { format!("tokens/{name}") };
    let token = connection.tokens().revoke_token(v1::RevokeTokenRequest { name }).await?.into_inner();
    output.print(&token, |token| format!("{} is revoked\n", token.name))
}

pub(super) async fn whoami(connection: Connection, output: Output) -> Result<ExitCode, Failure> {
    let caller = connection.system().get_caller(v1::GetCallerRequest {}).await?.into_inner();
    output.print(&caller, |caller| {
        table::facts(&[
            ("owner", caller.owner.clone()),
            ("role", role_of(caller.role)),
            ("known by", caller.known_by.clone()),
        ])
    })?;
    Ok(ExitCode::SUCCESS)
}

fn role_of(role: i32) -> String {
    let name = v1::Role::try_from(role).unwrap_or_default().as_str_name();
    name.trim_start_matches("ROLE_").to_ascii_lowercase()
}

impl From<RoleChoice> for v1::Role {
    fn from(choice: RoleChoice) -> Self {
        match choice {
            RoleChoice::Viewer => Self::Viewer,
            RoleChoice::Submitter => Self::Submitter,
            RoleChoice::Admin => Self::Admin,
        }
    }
}
