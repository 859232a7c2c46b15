//! Pages, and the marks between them.

use uuid::Uuid;

use crate::error::StoreError;

/// Most items of one page.
pub const PAGE_MAX: u32 = 500;

/// Which page is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// How many items at most; beyond [`PAGE_MAX`] it counts as that.
    pub limit: u32,
    /// The `next` of the page before; absent for the first.
    pub cursor: Option<String>,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self { limit: 100, cursor: None }
    }
}

/// Some items, and where the next ones begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Cursor of the next page; absent on the last.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// The page with each item changed.
    pub fn map<U>(self, change: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(change).collect(), next: self.next }
    }
}

impl PageRequest {
    /// One more than the page holds, so that a full answer shows whether there is a next page.
    pub(crate) fn probe(&self) -> i64 {
        i64::from(self.limit.clamp(1, PAGE_MAX)) + 1
    }

    /// The id after which the page begins.
    pub(crate) fn after_id(&self) -> Result<Option<Uuid>, StoreError> {
        self.cursor.as_deref().map(|cursor| Uuid::try_parse(cursor).map_err(|_| bad_cursor())).transpose()
    }

    /// The number after which the page begins.
    pub(crate) fn after_number(&self) -> Result<Option<i64>, StoreError> {
        self.cursor.as_deref().map(|cursor| cursor.parse().map_err(|_| bad_cursor())).transpose()
    }

    /// The name after which the page begins.
    pub(crate) fn after_name(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// Cuts the probe off and notes the last item's mark.
    pub(crate) fn page<T>(&self, mut items: Vec<T>, mark: impl Fn(&T) -> String) -> Page<T> {
        let limit = self.limit.clamp(1, PAGE_MAX) as usize;
        let has_more = items.len() > limit;
        items.truncate(limit);
        let next = if has_more { items.last().map(mark) } else { None };
        Page { items, next }
    }
}

pub(crate) fn bad_cursor() -> StoreError {
    StoreError::Invalid { reason: "the cursor is not one that a list gave; begin again without it".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_tells_whether_there_is_more() {
        let request = PageRequest { limit: 2, cursor: None };
        assert_eq!(
            request.page(vec![1, 2, 3], ToString::to_string),
            Page { items: vec![1, 2], next: Some("2".into()) }
        );
        assert_eq!(request.page(vec![1, 2], ToString::to_string), Page { items: vec![1, 2], next: None });
    }

    #[test]
    fn a_strange_cursor_is_refused() {
        let request = PageRequest { limit: 2, cursor: Some("'; drop".into()) };
        assert!(request.after_id().is_err());
        assert!(request.after_number().is_err());
    }

    #[test]
    fn a_page_is_bounded_whatever_is_asked_for() {
        assert_eq!(PageRequest { limit: u32::MAX, cursor: None }.probe(), i64::from(PAGE_MAX) + 1);
        assert_eq!(PageRequest { limit: 0, cursor: None }.probe(), 2);
    }
}
