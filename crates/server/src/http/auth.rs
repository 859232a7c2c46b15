//! Who asks: a bearer token in `Authorization`.

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;
use tenantry_api::Code;
use tenantry_control::{Control, tokens};
use tenantry_domain::{RequestId, Secret};
use tracing::{Span, field};

use super::problem::Refusal;

/// No token, or something else than a bearer token.
const CHALLENGE: &str = r#"Bearer realm="tenantry""#;
/// A token that is not accepted.
const CHALLENGE_INVALID: &str = r#"Bearer realm="tenantry", error="invalid_token""#;
/// Longer than any token of ours; a longer one is not looked up.
const TOKEN_BYTES_MAX: usize = 512;

/// Middleware: finds the caller, or refuses. Handlers and inner layers take it as an extension.
pub(crate) async fn authenticate(
    State(control): State<Control>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let token = bearer(request.headers())?;
    let request_id = *request.extensions().get::<RequestId>().ok_or_else(|| Refusal::internal("no request id"))?;
    let Some(caller) = tokens::authenticate(&control, &token, request_id).await? else {
        let detail = "The token is unknown, expired or revoked; make a new one with `tenantry token create`.";
        return Err(Refusal::new(Code::Unauthenticated, detail).with_challenge(CHALLENGE_INVALID));
    };
    if let Some(id) = caller.token {
        Span::current().record("token_id", field::display(id));
    }
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

fn bearer(headers: &HeaderMap) -> Result<Secret, Refusal> {
    let refuse = |detail: &str, challenge| Refusal::new(Code::Unauthenticated, detail).with_challenge(challenge);
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (given.next(), given.next()) else {
        return Err(refuse("Send one header `Authorization: Bearer <token>`.", CHALLENGE));
    };
    let text = value.to_str().ok().and_then(|text| text.split_once(' '));
    match text {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            let token = token.trim();
            if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
                return Err(refuse("The token has no possible length; check how it is given.", CHALLENGE_INVALID));
            }
            Ok(Secret::new(token.to_owned()))
        }
        _ => Err(refuse("The header must read `Authorization: Bearer <token>`.", CHALLENGE)),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn given(values: &[&str]) -> Result<Secret, Refusal> {
        let value = |text: &&str| (AUTHORIZATION, HeaderValue::from_str(text).expect("a header"));
        bearer(&values.iter().map(value).collect())
    }

    #[test]
    fn the_scheme_is_bearer_in_any_case() {
        for text in ["Bearer abc", "bearer abc", "BEARER  abc "] {
            assert_eq!(given(&[text]).expect("a token").expose(), "abc", "{text}");
        }
    }

    #[test]
    fn anything_else_is_unauthenticated() {
        let long = format!("Bearer {}", "x".repeat(TOKEN_BYTES_MAX + 1));
        for values in
            [&[][..], &[""], &["abc"], &["Basic abc"], &["Bearer"], &["Bearer "], &[&long], &["Bearer a", "Bearer b"]]
        {
            let refusal = given(values).expect_err("no token");
            assert_eq!(refusal.status().as_u16(), 401, "{values:?}");
        }
    }
}
