//! SKUs as they are sold. SKUs and products are read in statements of their own, so that a locking read locks the rows
//! of one table, in id order.

use std::collections::HashMap;

use async_trait::async_trait;
use ecom_core::Result;
use ecom_core::id::{ProductId, SkuId};
use ecom_core::money::{Money, Percentage};
use ecom_core::port::OfferRepository;
use ecom_core::sales::Offer;

use crate::sql::engine::builder::{Builder, MAX_LIST};
use crate::sql::engine::repository::SqlRepository;
use crate::sql::engine::value::{Row, bounded};

/// The offers of a SQL database.
pub type SqlOffers<'c> = SqlRepository<'c, dyn OfferRepository>;

impl SqlOffers<'_> {
    /// Reads the rows of `table` that have one of `ids`, by id, and locks them if `lock` is set.
    async fn rows<T>(
        &mut self,
        columns: &str,
        table: &str,
        mut ids: Vec<uuid::Uuid>,
        lock: bool,
        read: impl Fn(&Row) -> Result<T> + Send,
    ) -> Result<Vec<T>>
    where
        T: Send,
    {
        ids.sort_unstable();
        ids.dedup();
        let mut out = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(MAX_LIST) {
            let mut b = Builder::new("SELECT ");
            b.push(columns).push(" FROM ").push(table).push(" WHERE id IN ").list(chunk).push(" ORDER BY id");
            if lock {
                b.push(self.0.dialect().for_update);
            }
            let (text, args) = b.done();
            for row in self.0.fetch_all(text, args).await? {
                out.push(read(&row)?);
            }
        }
        Ok(out)
    }

    async fn read(&mut self, ids: &[SkuId], lock: bool) -> Result<Vec<Offer>> {
        struct OfProduct {
            title: String,
            discount: Percentage,
            status: ecom_core::catalog::ProductStatus,
            live: bool,
        }
        let currency = self.0.currency()?;
        let columns = "id, product_id, code, option_values, price, track_stock, on_hand, reserved, deleted_at, \
                       low_stock_threshold";
        let mut offers = self
            .rows(columns, "skus", ids.iter().map(|id| id.0).collect(), lock, |r| {
                Ok(Offer {
                    sku_id: SkuId(r.uuid(0)?),
                    product_id: ProductId(r.uuid(1)?),
                    code: r.string(2)?,
                    title: String::new(),
                    option_values: r.json(3)?,
                    list_price: Money::from_minor(r.i64(4)?, currency),
                    discount: Percentage::default(),
                    status: ecom_core::catalog::ProductStatus::Draft,
                    live: r.opt_time(8)?.is_none(),
                    tracked: r.i32(5)? != 0,
                    on_hand: r.i64(6)?,
                    reserved: r.i64(7)?,
                    low_stock_threshold: r.i64(9)?,
                })
            })
            .await?;
        let products = offers.iter().map(|o| o.product_id.0).collect();
        let products: HashMap<ProductId, OfProduct> = self
            .rows("id, title, discount, status, deleted_at", "products", products, lock, |r| {
                let product = OfProduct {
                    title: r.string(1)?,
                    discount: bounded(Percentage::from_hundredths(r.i64(2)?))?,
                    status: r.stored(3)?,
                    live: r.opt_time(4)?.is_none(),
                };
                Ok((ProductId(r.uuid(0)?), product))
            })
            .await?
            .into_iter()
            .collect();
        for offer in &mut offers {
            match products.get(&offer.product_id) {
                Some(product) => {
                    offer.title.clone_from(&product.title);
                    (offer.discount, offer.status) = (product.discount, product.status);
                    offer.live &= product.live;
                }
                None => offer.live = false,
            }
        }
        Ok(offers)
    }
}

#[async_trait]
impl OfferRepository for SqlOffers<'_> {
    async fn get(&mut self, ids: &[SkuId]) -> Result<Vec<Offer>> {
        self.read(ids, false).await
    }

    async fn lock(&mut self, ids: &[SkuId]) -> Result<Vec<Offer>> {
        self.read(ids, true).await
    }

    async fn by_codes(&mut self, codes: &[String]) -> Result<Vec<(String, SkuId)>> {
        let mut keys: Vec<String> = codes.iter().map(|c| ecom_core::text::fold_key(c)).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut out = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(MAX_LIST) {
            let mut b = Builder::new("SELECT code, id FROM skus WHERE deleted_at IS NULL AND code_key IN ");
            b.list(chunk);
            let (text, args) = b.done();
            for row in self.0.fetch_all(text, args).await? {
                out.push((ecom_core::text::fold_key(row.text(0)?), SkuId(row.uuid(1)?)));
            }
        }
        Ok(out)
    }
}
