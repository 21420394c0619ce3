//! TokenService.

use std::time::{Duration, SystemTime};

use tonic::{Code, Request, Response, Status};

use super::server::token_service_server::TokenService;
use super::{access, paging, status};
use crate::access::{Token, TokenError, Tokens};
use crate::job::Violations;
use crate::manager::JobError;
use crate::proto::{json, v1};
use crate::role::Role;

/// The beginning of the name of a resource.
const COLLECTION: &str = "tokens/";
/// Characters of the name of a token, and of an owner.
const LONGEST_NAME: usize = 64;
/// A token is good for at least this.
const SHORTEST_LIFE: Duration = Duration::from_secs(60);

/// The service.
pub(super) struct TokenList {
    tokens: Tokens,
}

impl TokenList {
    pub(super) fn new(tokens: Tokens) -> Self {
        Self { tokens }
    }
}

fn judge_name(field: &str, name: &str, wrong: &mut Violations) {
    let is_right = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@+".contains(&byte);
    let right = "1 to 64 letters, digits and . _ - @ + are right";
    if name.is_empty() {
        wrong.add(field, format!("is missing; {right}"));
    } else if name.len() > LONGEST_NAME {
        wrong.add(field, format!("has {} characters; {right}", name.len()));
    } else if !name.bytes().all(is_right) {
        wrong.add(field, format!("is {name:?}; {right}"));
    }
}

/// The end of a token that is made now.
fn end_of(ttl: Option<prost_types::Duration>, wrong: &mut Violations) -> Option<SystemTime> {
    let ttl = ttl?;
    let told = Duration::try_from(ttl);
    let end = told.as_ref().ok().and_then(|told| SystemTime::now().checked_add(*told));
    match (told, end) {
        (Ok(told), Some(end)) if told >= SHORTEST_LIFE && json::is_time(&end.into()) => Some(end),
        (Ok(told), _) => {
            let found = humantime::format_duration(told);
            wrong.add("ttl", format!("is {found}; 1m to some thousand years are right, or none for ever"));
            None
        }
        (Err(error), _) => {
            wrong.add("ttl", format!("is no time ahead: {error}; 1m to some thousand years are right"));
            None
        }
    }
}

fn message(token: Token) -> v1::Token {
    let Token { name, role, owner, created, expires, revoked } = token;
    v1::Token {
        name: format!("{COLLECTION}{name}"),
        role: v1::Role::from(role).into(),
        owner: owner.to_string(),
        create_time: Some(created.into()),
        expire_time: expires.map(Into::into),
        revoke_time: revoked.map(Into::into),
    }
}

fn of(error: TokenError) -> Status {
    let words = error.to_string();
    match error {
        TokenError::Taken(_) => status::plain(Code::AlreadyExists, "TOKEN_EXISTS", words),
        TokenError::Unknown(name) => status::not_found("torchd.v1.Token", &format!("{COLLECTION}{name}"), words),
        TokenError::OfFile => status::plain(Code::FailedPrecondition, "TOKEN_OF_FILE", words),
        TokenError::TooMany => status::plain(Code::ResourceExhausted, "TOO_MANY_TOKENS", words),
        TokenError::Stopping => status::plain(Code::Unavailable, "STOPPING", words),
        TokenError::NoRandom(_) => status::plain(Code::Internal, "INTERNAL", words),
        TokenError::Store(error) => status::of(JobError::from(error)),
    }
}

#[tonic::async_trait]
impl TokenService for TokenList {
    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let target = access::Target::of(&request);
        let v1::CreateTokenRequest { token_id, role, owner, ttl } = request.into_inner();
        let mut wrong = Violations::default();
        judge_name("token_id", &token_id, &mut wrong);
        if wrong.0.is_empty() {
            // A secret in the place of a name is told nowhere.
            target.tell(&format!("{COLLECTION}{token_id}"));
        }
        let owner = if owner.is_empty() { token_id.clone() } else { owner };
        if owner != token_id {
            judge_name("owner", &owner, &mut wrong);
        }
        let role = v1::Role::try_from(role).ok().and_then(|role| Role::try_from(role).ok());
        let role = role.filter(|role| Role::ALL.contains(role));
        if role.is_none() {
            wrong.add("role", "is missing; ROLE_VIEWER, ROLE_SUBMITTER or ROLE_ADMIN is right");
        }
        let expires = end_of(ttl, &mut wrong);
        let Some(role) = role.filter(|_| wrong.0.is_empty()) else { return Err(status::invalid(&wrong, "")) };
        let (token, secret) = self.tokens.create(&token_id, role, &owner, expires).await.map_err(of)?;
        tracing::info!(token = token_id, %role, owner, "a token is made");
        let secret = secret.reveal().to_owned();
        Ok(Response::new(v1::CreateTokenResponse { token: Some(message(token)), secret }))
    }

    async fn list_tokens(
        &self,
        request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensResponse>, Status> {
        let v1::ListTokensRequest { page_size, page_token } = request.into_inner();
        let size = paging::size(page_size, 50, 1000)?;
        let rest = self.tokens.list().into_iter().filter(|token| *token.name > *page_token);
        let mut page: Vec<_> = rest.take(size + 1).collect();
        let is_more = page.len() > size;
        page.truncate(size);
        let next_page_token = page.last().filter(|_| is_more).map(|last| last.name.to_string()).unwrap_or_default();
        let tokens = page.into_iter().map(message).collect();
        Ok(Response::new(v1::ListTokensResponse { tokens, next_page_token }))
    }

    async fn revoke_token(&self, request: Request<v1::RevokeTokenRequest>) -> Result<Response<v1::Token>, Status> {
        let target = access::Target::of(&request);
        let name = request.into_inner().name;
        let Some(id) = name.strip_prefix(COLLECTION) else {
            let right = if name.is_empty() {
                "is missing; tokens/{id} is needed".into()
            } else {
                format!("is {name:?}; tokens/{name} is right")
            };
            return Err(status::invalid_field("name", right));
        };
        let mut wrong = Violations::default();
        judge_name("name", id, &mut wrong);
        if !wrong.0.is_empty() {
            return Err(status::invalid(&wrong, ""));
        }
        target.tell(&name);
        let token = self.tokens.revoke(id).await.map_err(of)?;
        tracing::info!(token = id, "a token is revoked");
        Ok(Response::new(message(token)))
    }
}
