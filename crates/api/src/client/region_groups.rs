//! Region groups.

use tenantry_domain::Region;

use super::request::{Call, Tagged};
use super::{Client, ClientError};
use crate::{ListQuery, Page, PutRegionGroup, RegionGroup};

impl Client {
    /// `GET /v1/region-groups`: one page.
    pub async fn list_region_groups(&self, list: &ListQuery) -> Result<Page<RegionGroup>, ClientError> {
        self.send(Call::get(&[&"region-groups"]).query(list)?).await
    }

    /// `GET /v1/region-groups/{group}`, with its version for a conditional change.
    pub async fn show_region_group(&self, group: &Region) -> Result<Tagged<RegionGroup>, ClientError> {
        self.send_tagged(Call::get(&[&"region-groups", group])).await
    }

    /// `PUT /v1/region-groups/{group}`: makes it, or gives it these members; with an etag only if it has not changed
    /// since.
    pub async fn put_region_group(
        &self,
        group: &Region,
        put: &PutRegionGroup,
        etag: Option<&str>,
    ) -> Result<Tagged<RegionGroup>, ClientError> {
        self.send_tagged(Call::put(&[&"region-groups", group]).json(put)?.if_match(etag)).await
    }

    /// `DELETE /v1/region-groups/{group}`: forgets a group that no tenant names.
    pub async fn delete_region_group(&self, group: &Region) -> Result<(), ClientError> {
        self.send_for_nothing(Call::delete(&[&"region-groups", group])).await
    }
}
