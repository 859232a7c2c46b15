//! Routes and their feed.

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tenantry_domain::{DisplayName, FeedVersion};

use super::lines::Lines;
use super::request::{Call, Tagged};
use super::{Client, ClientError};
use crate::feed::{FEED_MEDIA_TYPE, FeedEvent, FeedQuery, KINDS};
use crate::resolved_route::ResolvedRoute;
use crate::route::{ResolveBy, ResolveQuery, Route};
use crate::route_line::RouteLine;

/// The events of the feed. It ends when the server closes it; silence longer than the idle timeout and lines that are
/// no events are errors. In each case the reader opens it again after the last version that it applied.
pub type FeedStream = BoxStream<'static, Result<FeedEvent, ClientError>>;

impl Client {
    /// `GET /v1/routes/feed`: changes after a version, or a snapshot and then changes.
    pub async fn feed(&self, after: Option<FeedVersion>) -> Result<FeedStream, ClientError> {
        let query = FeedQuery { after, router: None };
        self.follow(&query, |line| serde_json::from_slice(line)).await
    }

    /// The same as the router of this name, which `GET /v1/routers` shows as connected meanwhile. `read` makes of each
    /// event what the caller needs: of a route that it does not keep whole, no text is copied that it does not want.
    pub async fn feed_as<T: Send + 'static>(
        &self,
        router: &str,
        after: Option<FeedVersion>,
        mut read: impl FnMut(FeedEvent<RouteLine<'_>>) -> T + Send + 'static,
    ) -> Result<BoxStream<'static, Result<T, ClientError>>, ClientError> {
        let refuse = |source| ClientError::refused("the router's name is not valid", source);
        let router = Some(DisplayName::parse(router).map_err(refuse)?);
        let query = FeedQuery { after, router };
        self.follow(&query, move |line| serde_json::from_slice(line).map(&mut read)).await
    }

    async fn follow<T: Send + 'static>(
        &self,
        query: &FeedQuery,
        read: impl FnMut(&[u8]) -> Result<T, serde_json::Error> + Send + 'static,
    ) -> Result<BoxStream<'static, Result<T, ClientError>>, ClientError> {
        let call = Call::get(&[&"routes", &"feed"]).query(query)?.accept(FEED_MEDIA_TYPE).packed();
        let lines = Lines::new(self.clone(), self.open(call).await?)?;
        Ok(stream::try_unfold((lines, read), |(mut lines, mut read)| async move {
            while let Some(line) = lines.next().await? {
                if line.is_empty() {
                    continue;
                }
                let event = match read(&line) {
                    Ok(event) => event,
                    // A newer server may say more; what an older reader does not know is for newer readers only.
                    Err(_) if is_unknown_kind(&line) => continue,
                    Err(error) => {
                        // The line itself stays out of the error: it may bear a password.
                        let place = format!("a line of the feed is no event ({:?} error)", error.classify());
                        return Err(lines.unexpected(&place));
                    }
                };
                return Ok(Some((event, (lines, read))));
            }
            Ok(None)
        })
        .boxed())
    }

    /// `GET /v1/routes/resolve`: one tenant's route, with passwords where the token has `routes:secrets`.
    pub async fn resolve_route(&self, by: ResolveBy) -> Result<Route, ClientError> {
        self.send(Call::get(&[&"routes", &"resolve"]).query(&ResolveQuery::from(by))?).await
    }

    /// The same with where its cluster is and with its version; nothing where the version that the caller has still holds.
    pub async fn resolve_route_unless(
        &self,
        by: ResolveBy,
        known: Option<&str>,
    ) -> Result<Option<Tagged<ResolvedRoute>>, ClientError> {
        let call = Call::get(&[&"routes", &"resolve"]).query(&ResolveQuery::from(by))?;
        self.send_unless_known(match known {
            Some(etag) => call.if_none_match(etag),
            None => call,
        })
        .await
    }
}

/// Whether the line is an event of a kind that this version does not know.
fn is_unknown_kind(line: &[u8]) -> bool {
    let kind = serde_json::from_slice::<serde_json::Value>(line).ok();
    kind.is_some_and(|event| event["type"].as_str().is_some_and(|kind| !KINDS.contains(&kind)))
}
