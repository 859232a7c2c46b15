//! Tokens.

use tenantry_domain::TokenId;

use super::request::Call;
use super::{Client, ClientError};
use crate::{CreateToken, CreatedToken, ListQuery, Page, Token};

impl Client {
    /// `POST /v1/tokens`: the answer bears the secret, this once.
    pub async fn create_token(&self, create: &CreateToken) -> Result<CreatedToken, ClientError> {
        self.send(Call::post(&[&"tokens"]).json(create)?).await
    }

    /// `GET /v1/tokens`: one page.
    pub async fn list_tokens(&self, list: &ListQuery) -> Result<Page<Token>, ClientError> {
        self.send(Call::get(&[&"tokens"]).query(list)?).await
    }

    /// `DELETE /v1/tokens/{token}`: no longer accepted from now on.
    pub async fn delete_token(&self, token: TokenId) -> Result<(), ClientError> {
        self.send_for_nothing(Call::delete(&[&"tokens", &token])).await
    }
}
