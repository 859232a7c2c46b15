//! Lists over as many pages as it takes.

use clap::Args;
use tenantry_api::{ClientError, Page, PageLimit};

use super::error::CliError;

/// The most that one page may hold.
const PAGE_MAX: usize = 500;

/// How much of a list to show.
#[derive(Debug, Clone, Args)]
pub(crate) struct ListOptions {
    /// Show at most so many
    #[arg(long, default_value_t = 100, value_name = "NUMBER", value_parser = positive)]
    limit: usize,
    /// Show everything
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Go on after a list that was cut: its `next` in the JSON output
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

impl ListOptions {
    /// The whole list.
    pub(crate) fn everything() -> Self {
        Self { limit: 1, all: true, cursor: None }
    }
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "use a whole number from 1 on".to_owned())
}

/// Asks for page after page until the limit or the end is reached. `next` of the answer is null at the end.
pub(crate) async fn gather<T>(
    options: &ListOptions,
    mut fetch: impl AsyncFnMut(PageLimit, Option<String>) -> Result<Page<T>, ClientError>,
) -> Result<Page<T>, CliError> {
    let mut items = Vec::new();
    let mut cursor = options.cursor.clone();
    loop {
        let wanted = if options.all { PAGE_MAX } else { (options.limit - items.len()).min(PAGE_MAX) };
        let limit = PageLimit::new(wanted as u64).map_err(|error| CliError::usage(error.to_string()))?;
        let page = fetch(limit, cursor.take()).await?;
        items.extend(page.items);
        let is_enough = !options.all && items.len() >= options.limit;
        if page.next.is_none() || is_enough {
            return Ok(Page { items, next: page.next });
        }
        cursor = page.next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list of the numbers below 1,200, whose cursor is the next number.
    async fn numbers(options: ListOptions) -> (usize, Option<String>, usize) {
        let mut calls = 0;
        let gathered = gather(&options, async |limit, cursor| {
            calls += 1;
            let from = cursor.map_or(0, |cursor| cursor.parse::<usize>().expect("our own cursor"));
            let to = (from + usize::from(limit.get())).min(1_200);
            Ok(Page { items: (from..to).collect(), next: (to < 1_200).then(|| to.to_string()) })
        });
        let page = gathered.await.expect("no failure");
        (page.items.len(), page.next, calls)
    }

    #[tokio::test]
    async fn a_list_is_read_over_its_pages_up_to_the_limit() {
        let options = |limit, all, cursor: Option<&str>| ListOptions { limit, all, cursor: cursor.map(str::to_owned) };
        assert_eq!(numbers(options(100, false, None)).await, (100, Some("100".to_owned()), 1));
        assert_eq!(numbers(options(700, false, None)).await, (700, Some("700".to_owned()), 2));
        assert_eq!(numbers(options(100, true, None)).await, (1_200, None, 3));
        assert_eq!(numbers(options(5_000, false, None)).await, (1_200, None, 3));
        assert_eq!(numbers(options(100, false, Some("1150"))).await, (50, None, 1));
    }
}
