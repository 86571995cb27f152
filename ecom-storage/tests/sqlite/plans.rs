//! The indexes that lists use, and the number of statements that reads and writes take.

use ecom_core::access::{BuiltInRole, User, UserFilter};
use ecom_core::catalog::{Product, ProductFilter, ProductSort, ProductStatus, Review, ReviewFilter, ReviewSort};
use ecom_core::common::IncludeDeleted;
use ecom_core::id::*;
use ecom_core::money::Stars;
use ecom_core::paging::{Keyset, Paging, SortKey};
use ecom_core::platform::{AuditLogFilter, JobKind, JobState};
use ecom_core::port::*;
use ecom_core::sales::{
    BillFilter, BillKind, BillSort, BillStatus, ChangeKind, DeliveryMethod, OrderChange, OrderFilter, OrderLineFilter,
    OrderRecord, OrderSort, OrderStatus,
};
use ecom_core::stock::StockMovement;
use ecom_core::testkit::sample::{Env, usd};

use crate::support::{TestResult, category, file, movement, product, write_categories, write_products};

#[tokio::test]
async fn every_list_walks_an_index_and_sorts_nothing() -> TestResult {
    let (_dir, s) = file().await;
    let top = category("Office", None);
    write_categories(&s, std::slice::from_ref(&top)).await?;
    let all: Vec<Product> = (0..60).map(|i| product(&format!("Pen {i}"), &[&top], 100 + i, 1)).collect();
    write_products(&s, &all).await?;
    for sort in ProductSort::ALL {
        let index = match sort {
            ProductSort::CreatedAsc | ProductSort::CreatedDesc => "id",
            ProductSort::PriceAsc | ProductSort::PriceDesc => "price",
            ProductSort::TitleAsc | ProductSort::TitleDesc => "title",
            ProductSort::RatingDesc => "rating",
        };
        for category in [None, Some(top.id)] {
            for prices in [false, true] {
                let filter = ProductFilter {
                    category,
                    status: Some(ProductStatus::Active),
                    min_price: prices.then_some(usd(100)),
                    max_price: prices.then_some(usd(1_000)),
                    ..ProductFilter::default()
                };
                let first = s.connect().await?.products().list(&filter, sort, &Paging::first(20)).await?;
                for paging in [
                    Paging::first(20),
                    Paging::Keyset { after: first.next.clone(), limit: 20 },
                    Paging::Offset { offset: 20, limit: 20 },
                ] {
                    let plan = s.explain_list(&filter, sort, &paging).await?.join("\n");
                    let name = if category.is_some() { "product_listings" } else { "products_list" };
                    assert!(plan.contains(&format!("INDEX {name}_{index} ")), "{sort:?} {paging:?}\n{plan}");
                    assert!(!plan.contains("TEMP B-TREE"), "{sort:?} {paging:?}\n{plan}");
                    assert!(
                        !plan.lines().any(|l| l.starts_with("SCAN") && l != "SCAN page"),
                        "{sort:?} {paging:?}\n{plan}"
                    );
                    if prices && index == "price" {
                        assert!(plan.contains("price_key"), "the price bounds the walk\n{plan}");
                    }
                    if matches!(paging, Paging::Keyset { after: Some(_), .. }) && index != "id" {
                        let beyond = if sort.is_descending() { "<" } else { ">" };
                        let bound = format!("){beyond}(?,?)");
                        assert!(plan.contains(&bound), "the cursor bounds the walk\n{plan}");
                        assert!(
                            !prices || index != "price" || plan.matches("price_key").count() == 2,
                            "and so does the filter\n{plan}"
                        );
                    }
                }
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_list_of_reviews_walks_an_index_and_sorts_nothing() -> TestResult {
    let (_dir, s) = file().await;
    let env = Env::default();
    let (lamp, ada) = (env.priced("Lamp", 100, 1), env.customer("Ada", "L", "ada@example.com"));
    write_products(&s, std::slice::from_ref(&lamp)).await?;
    let mut tx = s.begin().await?;
    tx.customers().insert(std::slice::from_ref(&ada)).await?;
    let mut all: Vec<Review> = (0..60).map(|n| env.review(&lamp, None, n % 51)).collect();
    all.push(env.review(&lamp, Some(&ada), 20));
    tx.reviews().insert(&all).await?;
    tx.commit().await?;
    for &sort in ReviewSort::ALL {
        for (product, customer) in
            [(None, None), (Some(lamp.id), None), (None, Some(ada.id)), (Some(lamp.id), Some(ada.id))]
        {
            for (bounded, active_only) in [(false, false), (true, false), (false, true), (true, true)] {
                let bound = |tenths| Stars::from_tenths(tenths).ok().filter(|_| bounded);
                let (min_rating, max_rating) = (bound(10), bound(40));
                let filter =
                    ReviewFilter { product, customer, min_rating, max_rating, active_only, ..ReviewFilter::default() };
                let key = if sort.is_by_rating() { SortKey::Int(20) } else { SortKey::Id };
                let after = Some(Keyset { sort: sort.as_str().to_owned(), key, id: all[20].id.0 });
                for paging in
                    [Paging::first(20), Paging::Keyset { after, limit: 20 }, Paging::Offset { offset: 20, limit: 20 }]
                {
                    let plan = s.explain_reviews(&filter, sort, &paging).await?.join("\n");
                    let about = format!("{filter:?} {sort:?} {paging:?}\n{plan}");
                    let index = match (product.is_some(), customer.is_some(), sort.is_by_rating()) {
                        (true, true, _) => "reviews_customer_product ",
                        (true, false, false) => "reviews_product ",
                        (true, false, true) => "reviews_product_rating ",
                        (false, true, false) => "reviews_customer ",
                        (false, true, true) => "reviews_customer_rating ",
                        (false, false, false) => "sqlite_autoindex_reviews_1",
                        (false, false, true) => "reviews_rating",
                    };
                    assert!(plan.contains(index), "{about}");
                    assert!(!plan.contains("TEMP B-TREE"), "{about}");
                    let beyond = matches!(paging, Paging::Keyset { after: Some(_), .. });
                    if !bounded && !beyond && product.is_none() && customer.is_none() {
                        // The whole index, of which the page reads the beginning.
                        assert!(plan.starts_with("SCAN reviews USING INDEX"), "{about}");
                    } else if sort.is_by_rating() || beyond || product.is_some() || customer.is_some() {
                        assert!(plan.starts_with("SEARCH reviews USING INDEX"), "{about}");
                    }
                    if beyond && sort.is_by_rating() && !(product.is_some() && customer.is_some()) {
                        assert!(plan.contains("(rating,id)"), "the cursor bounds the walk\n{about}");
                    }
                }
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_list_of_users_walks_an_index_and_sorts_nothing() -> TestResult {
    let (_dir, s) = file().await;
    let env = Env::default();
    let ada = env.customer("Ada", "L", "ada@example.com");
    let role = BuiltInRole::Customer.id();
    let all: Vec<User> = (0..60).map(|n| env.full_user(&format!("u{n}@example.com"), None, &[role])).collect();
    let mut tx = s.begin().await?;
    tx.customers().insert(std::slice::from_ref(&ada)).await?;
    for user in &all {
        tx.users().insert(user).await?;
    }
    tx.commit().await?;
    for role in [None, Some(role)] {
        for email in [None, Some("u1@example.com".to_owned())] {
            for customer in [None, Some(ada.id)] {
                for include_deleted in [IncludeDeleted::No, IncludeDeleted::Yes] {
                    let filter = UserFilter { email: email.clone(), role, customer, include_deleted };
                    let after = Some(Keyset { sort: "created_desc".to_owned(), key: SortKey::Id, id: all[20].id.0 });
                    for paging in [
                        Paging::first(20),
                        Paging::Keyset { after, limit: 20 },
                        Paging::Offset { offset: 20, limit: 20 },
                    ] {
                        let plan = s.explain_users(&filter, &paging).await?.join("\n");
                        let about = format!("{filter:?} {paging:?}\n{plan}");
                        let (walk, only) = match (email.is_some(), customer.is_some(), role.is_some()) {
                            (true, false, _) => ("SEARCH u USING INDEX users_email", "(email_key=?"),
                            (false, true, _) => ("SEARCH u USING INDEX users_customer", "(customer_id=?"),
                            (true, true, _) => ("SEARCH u USING INDEX users_", "=?"),
                            (false, false, true) => ("SEARCH held USING COVERING INDEX user_roles_role", "(role_id=?"),
                            (false, false, false) => ("", ""),
                        };
                        assert!(plan.starts_with(walk) && plan.contains(only), "{about}");
                        assert!(!plan.contains("TEMP B-TREE"), "{about}");
                        if walk.is_empty() {
                            // The whole table in the order of its key, of which the page reads the beginning.
                            assert!(
                                plan.starts_with("SCAN u\n") || plan.starts_with("SEARCH u USING PRIMARY"),
                                "{about}"
                            );
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_page_is_one_statement_whatever_its_size_and_a_batch_grows_with_chunks_only() -> TestResult {
    let (_dir, s) = file().await;
    let top = category("Office", None);
    write_categories(&s, std::slice::from_ref(&top)).await?;
    let all: Vec<Product> = (0..128).map(|i| product(&format!("Pen {i}"), &[&top], 100 + i, 2)).collect();
    let before = s.statements();
    write_products(&s, &all).await?;
    let batch = s.statements() - before;
    assert!(batch <= 20, "{batch} statements for 128 products");
    let filter = ProductFilter { category: Some(top.id), ..ProductFilter::default() };
    let mut c = s.connect().await?;
    let mut counted = Vec::new();
    for limit in [20, 100] {
        let before = s.statements();
        let page = c.products().list(&filter, ProductSort::PriceAsc, &Paging::first(limit)).await?;
        assert_eq!(page.items.len(), limit as usize);
        counted.push(s.statements() - before);
    }
    assert_eq!(counted, [1, 1]);
    let ids: Vec<ProductId> = all.iter().map(|p| p.id).collect();
    for (n, reads) in [(1, 1), (100, 1)] {
        let before = s.statements();
        assert_eq!(c.products().get_many(&ids[..n], IncludeDeleted::No).await?, all[..n]);
        assert_eq!(s.statements() - before, reads);
    }
    let before = s.statements();
    c.products().get(ids[0], IncludeDeleted::No).await?;
    assert_eq!(s.statements() - before, 1);
    drop(c);
    // Stock of 100 SKUs at once.
    let moves: Vec<StockMovement> = all[..50].iter().flat_map(|p| &p.skus).map(|s| movement(s.id, 1)).collect();
    let mut tx = s.begin().await?;
    let before = s.statements();
    assert_eq!(tx.inventory().apply(&moves).await?.len(), 50);
    assert!(s.statements() - before <= 10);
    tx.commit().await?;
    Ok(())
}

#[tokio::test]
async fn every_list_of_orders_walks_an_index_and_sorts_nothing() -> TestResult {
    let (_dir, s) = file().await;
    let env = Env::default();
    let (lamp, ada) = (env.priced("Lamp", 100, 1), env.customer("Ada", "L", "ada@example.com"));
    write_products(&s, std::slice::from_ref(&lamp)).await?;
    let mut tx = s.begin().await?;
    tx.customers().insert(std::slice::from_ref(&ada)).await?;
    let records: Vec<OrderRecord> = (0..200)
        .map(|n| {
            let mut record = env.order_of(&lamp, 1);
            record.order.customer_id = (n % 10 == 0).then_some(ada.id);
            record
        })
        .collect();
    let changes: Vec<OrderChange> = records.iter().map(|r| env.order_change(r, ChangeKind::Placed)).collect();
    tx.orders().insert(&records, &changes).await?;
    tx.commit().await?;
    let time = records[100].order.placed_at;
    let plain = OrderFilter::default;
    for sort in OrderSort::ALL {
        for (indexes, filter) in [
            (&["orders_placed", "orders_list"][..], plain()),
            (&["orders_customer"], OrderFilter { customer: Some(ada.id), ..plain() }),
            (&["orders_email"], OrderFilter { email: Some("ada@example.com".to_owned()), ..plain() }),
            (&["orders_list"], OrderFilter { status: Some(OrderStatus::Pending), ..plain() }),
            (&["orders_delivery"], OrderFilter { delivery_method: Some(DeliveryMethod::OnHand), ..plain() }),
            (&[], OrderFilter { sku: Some(lamp.skus[0].id), ..plain() }),
        ] {
            for include_deleted in [IncludeDeleted::No, IncludeDeleted::Yes] {
                for (from, until) in [(None, None), (Some(time), None), (Some(time), Some(time))] {
                    let filter = OrderFilter { include_deleted, from, until, ..filter.clone() };
                    let key = SortKey::Int(time.timestamp_micros());
                    let after = Some(Keyset { sort: sort.as_str().to_owned(), key, id: records[20].order.id.0 });
                    for paging in [
                        Paging::first(20),
                        Paging::Keyset { after, limit: 20 },
                        Paging::Offset { offset: 20, limit: 20 },
                    ] {
                        let steps = s.explain_orders(&filter, *sort, &paging).await?.join("\n");
                        let about = format!("{filter:?} {sort:?} {paging:?}\n{steps}");
                        if filter.sku.is_some() {
                            // The lines do not have the time of their order, so the orders of the SKU are sorted.
                            assert!(steps.contains("INDEX order_lines_sku (sku_id=?)"), "{about}");
                            continue;
                        }
                        let is_walked = |index: &&str| steps.contains(&format!("orders USING INDEX {index}"));
                        // An order is seldom listed by status together with the soft-deleted ones.
                        let is_rare = filter.status.is_some() && include_deleted == IncludeDeleted::Yes;
                        assert!(is_rare || indexes.iter().any(is_walked), "{about}");
                        assert!(!steps.contains("TEMP B-TREE"), "{about}");
                        let beyond = matches!(paging, Paging::Keyset { after: Some(_), .. });
                        if beyond || from.is_some() {
                            assert!(
                                steps.contains("placed_at>") || steps.contains("placed_at<"),
                                "the walk begins at the cursor or the time\n{about}"
                            );
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_list_of_order_lines_walks_an_index_and_sorts_nothing() -> TestResult {
    let (_dir, s) = file().await;
    let env = Env::default();
    let (lamp, ada) = (env.priced("Lamp", 100, 1), env.customer("Ada", "L", "ada@example.com"));
    write_products(&s, std::slice::from_ref(&lamp)).await?;
    let mut tx = s.begin().await?;
    tx.customers().insert(std::slice::from_ref(&ada)).await?;
    let records: Vec<OrderRecord> = (0..200)
        .map(|n| {
            let mut record = env.order_of(&lamp, 1);
            record.order.customer_id = (n % 10 == 0).then_some(ada.id);
            record
        })
        .collect();
    let changes: Vec<OrderChange> = records.iter().map(|r| env.order_change(r, ChangeKind::Placed)).collect();
    tx.orders().insert(&records, &changes).await?;
    tx.commit().await?;
    let line = &records[100].order.lines[0];
    let any = OrderLineFilter::default;
    let sku = OrderLineFilter { sku: line.sku_id, ..any() };
    for sort in OrderSort::ALL {
        for (index, filter) in [
            ("order_lines_placed", any()),
            ("order_lines_placed", OrderLineFilter { status: Some(OrderStatus::Pending), ..any() }),
            ("order_lines_sku (sku_id=?", sku.clone()),
            ("order_lines_sku (sku_id=?", OrderLineFilter { status: Some(OrderStatus::Pending), ..sku.clone() }),
            ("order_lines_product (product_id=?", OrderLineFilter { product: line.product_id, ..any() }),
            // An order, and all orders of a customer, have few lines, which may be sorted.
            ("order_lines_position (order_id=?", OrderLineFilter { order: Some(line.order_id), ..any() }),
            ("order_lines_position (order_id=?", OrderLineFilter { customer: Some(ada.id), ..any() }),
        ] {
            for include_deleted in [IncludeDeleted::No, IncludeDeleted::Yes] {
                for (from, until) in
                    [(None, None), (Some(line.placed_at), None), (Some(line.placed_at), Some(line.placed_at))]
                {
                    let filter = OrderLineFilter { include_deleted, from, until, ..filter.clone() };
                    let key = SortKey::Int(line.placed_at.timestamp_micros());
                    let after = Some(Keyset { sort: sort.as_str().to_owned(), key, id: line.id.0 });
                    for paging in [
                        Paging::first(20),
                        Paging::Keyset { after, limit: 20 },
                        Paging::Offset { offset: 20, limit: 20 },
                    ] {
                        let plan = s.explain_order_lines(&filter, *sort, &paging).await?.join("\n");
                        let about = format!("{filter:?} {sort:?} {paging:?}\n{plan}");
                        assert!(plan.contains(&format!("order_lines USING INDEX {index}")), "{about}");
                        if filter.order.is_some() || filter.customer.is_some() {
                            continue;
                        }
                        assert!(!plan.contains("TEMP B-TREE"), "{about}");
                        let beyond = matches!(paging, Paging::Keyset { after: Some(_), .. });
                        if beyond || from.is_some() {
                            assert!(
                                plan.contains("placed_at>") || plan.contains("placed_at<"),
                                "the walk begins at the cursor or the time\n{about}"
                            );
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_list_of_bills_walks_an_index_and_sorts_nothing() -> TestResult {
    let (_dir, s) = file().await;
    let env = Env::default();
    let records: Vec<OrderRecord> = (0..200).map(|_| env.order()).collect();
    let changes: Vec<OrderChange> = records.iter().map(|r| env.order_change(r, ChangeKind::Placed)).collect();
    let mut tx = s.begin().await?;
    tx.orders().insert(&records, &changes).await?;
    tx.commit().await?;
    let date = records[100].bills[0].date;
    for sort in BillSort::ALL {
        for kind in [None, Some(BillKind::Bill)] {
            for status in [None, Some(BillStatus::Open)] {
                for order in [None, Some(records[3].order.id)] {
                    for (from, until) in [(None, None), (Some(date), None), (Some(date), Some(date))] {
                        let filter = BillFilter { order, kind, status, from, until, ..BillFilter::default() };
                        let key = SortKey::Int(date.timestamp_micros());
                        let after = Some(Keyset { sort: sort.as_str().to_owned(), key, id: records[20].bills[0].id.0 });
                        for paging in [
                            Paging::first(20),
                            Paging::Keyset { after, limit: 20 },
                            Paging::Offset { offset: 20, limit: 20 },
                        ] {
                            let plan = s.explain_bills(&filter, *sort, &paging).await?.join("\n");
                            let about = format!("{filter:?} {sort:?} {paging:?}\n{plan}");
                            if order.is_some() {
                                // An order has few bills, which may be sorted.
                                assert!(plan.contains("SEARCH bills USING INDEX bills_order"), "{about}");
                                continue;
                            }
                            let index = if status.is_some() { "bills_status" } else { "bills_list" };
                            assert!(plan.contains(&format!("USING INDEX {index}")), "{about}");
                            assert!(!plan.contains("TEMP B-TREE"), "{about}");
                            if matches!(paging, Paging::Keyset { after: Some(_), .. }) || from.is_some() {
                                assert!(plan.contains("date>") || plan.contains("date<"), "{about}");
                            }
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn lists_of_the_audit_log_walk_an_index_and_sort_nothing() -> TestResult {
    let (_dir, s) = file().await;
    let time = Env::default().now();
    let some = |text: &str| Some(text.to_owned());
    for (actor, entity, action, aggregate_id, index) in [
        (None, None, None, None, "audit_log_occurred"),
        (some("user:1"), None, None, None, "audit_log_actor"),
        (None, some("product"), None, None, "audit_log_entity"),
        (None, None, some("product.updated"), None, "audit_log_action"),
        (None, None, None, Some(uuid::Uuid::nil()), "audit_log_aggregate"),
        (some("user:1"), some("product"), some("product.updated"), Some(uuid::Uuid::nil()), "audit_log_"),
    ] {
        for (from, until) in [(None, None), (Some(time), None), (Some(time), Some(time))] {
            let (actor, entity, action) = (actor.clone(), entity.clone(), action.clone());
            let filter = AuditLogFilter { actor, entity, action, aggregate_id, from, until };
            let key = SortKey::Int(time.timestamp_micros());
            let after = Some(Keyset { sort: "occurred_desc".to_owned(), key, id: uuid::Uuid::nil() });
            for paging in
                [Paging::first(20), Paging::Keyset { after, limit: 20 }, Paging::Offset { offset: 20, limit: 20 }]
            {
                let plan = s.explain_audit_log(&filter, &paging).await?.join("\n");
                let about = format!("{filter:?} {paging:?}\n{plan}");
                assert!(plan.contains(&format!("USING INDEX {index}")), "{about}");
                assert!(!plan.contains("TEMP B-TREE"), "{about}");
                if matches!(paging, Paging::Keyset { after: Some(_), .. }) || from.is_some() {
                    assert!(plan.contains("occurred_at>") || plan.contains("occurred_at<"), "{about}");
                }
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_queued_job_is_found_by_its_key_however_many_have_ended() -> TestResult {
    let (_dir, s) = file().await;
    let plan = s.explain_queued_job(&JobKind::MAIL, "4711").await?.join("\n");
    assert!(plan.contains("SEARCH jobs USING INDEX jobs_waiting (waiting=?)"), "{plan}");
    assert!(plan.contains("SEARCH jobs USING INDEX jobs_unique_key (kind=? AND unique_key=?)"), "{plan}");
    Ok(())
}

#[tokio::test]
async fn the_newest_jobs_of_a_state_are_a_range_of_an_index() -> TestResult {
    let (_dir, s) = file().await;
    let plan = s.explain_newest_jobs(&[JobState::Queued, JobState::Failed], 10_000).await?.join("\n");
    assert_eq!(plan.matches("SEARCH jobs USING INDEX jobs_state (state=?)").count(), 2, "{plan}");
    assert!(!plan.contains("SCAN jobs") && !plan.contains("ORDER BY"), "neither all jobs nor a sort\n{plan}");
    Ok(())
}

#[tokio::test]
async fn what_was_a_guests_is_found_by_indexes() -> TestResult {
    let (_dir, s) = file().await;
    let ada = Env::default().customer("Ada", "L", "ada@example.com");
    let orders = s.explain_orders_of_guests(&ada.email).await?.join("\n");
    assert!(orders.starts_with("SEARCH orders USING INDEX orders_email (email_key=?)"), "{orders}");
    let answers = s.explain_answers_about_guests(ada.id).await?;
    let about = answers.join("\n");
    // The recursion reads what it has found.
    let scans: Vec<_> = answers.iter().filter(|step| step.starts_with("SCAN")).collect();
    assert_eq!(scans, ["SCAN o", "SCAN own"], "{about}");
    assert!(about.ends_with("SEARCH k USING INDEX idempotency_keys_guest (guest_id=?)"), "{about}");
    assert_eq!(about.matches("orders_customer (customer_id=?)").count(), 2, "{about}");
    Ok(())
}
