//! Imports of customers and carts (R20). `tests/import` of the facade has the details, on SQLite.

use std::io::Cursor;

use serde_json::json;

use super::ShopFixture;
use crate::catalog::{ImportOptions, ImportReport};
use crate::domain::sales::cart::{CartFilter, CartState};
use crate::paging::Paging;
use crate::sales::{AddressFilter, CustomerFilter, CustomerSort};
use crate::shop::Shop;

tests! {
    __shop_imports: [
        r20_customers_and_carts_are_imported_once,
        r20_imports_of_one_file_at_once_write_each_row_once,
    ]
}

const CUSTOMERS: usize = 12;

/// Products, customers with an address, and two carts of each customer.
fn files() -> [Vec<u8>; 3] {
    let products = json!([
        {"id": 1, "title": "Lamp", "price": 10, "stock": 5, "sku": "LAMP", "category": "light"},
        {"id": 2, "title": "Bulb", "price": 2.5, "stock": 50, "sku": "BULB", "category": "light"},
    ]);
    let customers: Vec<_> = (0..CUSTOMERS)
        .map(|i| {
            let address = json!({"address": "12 Main Street", "city": "Phoenix", "country": "United States"});
            let email = format!("customer{i}@example.com");
            json!({"id": i, "firstName": "A", "lastName": "B", "email": email, "phone": "+81 965-431-3024",
                   "address": address})
        })
        .collect();
    let cart = |id: usize, user: usize, product: u32| {
        let lines = json!([{"id": product, "quantity": 2}, {"id": product, "quantity": 1}]);
        json!({"id": id, "userId": user, "products": lines})
    };
    let carts: Vec<_> = (0..CUSTOMERS).flat_map(|i| [cart(2 * i, i, 1), cart(2 * i + 1, i, 2)]).collect();
    [products.to_string(), json!(customers).to_string(), json!(carts).to_string()].map(String::into_bytes)
}

async fn import(shop: &Shop) -> [ImportReport; 2] {
    let [_, customers, carts] = files();
    let options = || ImportOptions::default().batch(7);
    let service = shop.import();
    let customers = service.customers(Cursor::new(customers), options(), |_| {}).await.unwrap();
    [customers, service.carts(Cursor::new(carts), options(), |_| {}).await.unwrap()]
}

async fn import_products(shop: &Shop) {
    let [products, _, _] = files();
    let report = shop.import().products(Cursor::new(products), ImportOptions::default(), |_| {}).await.unwrap();
    assert_eq!(report.inserted, 2, "{report:?}");
}

async fn assert_imported(shop: &Shop) {
    let all = Paging::first(1_000);
    let (customers, _) =
        shop.customers().list(&CustomerFilter::default(), CustomerSort::default(), &all).await.unwrap();
    let (addresses, _) = shop.addresses().list(&AddressFilter::default(), &all).await.unwrap();
    assert_eq!((customers.items.len(), addresses.items.len()), (CUSTOMERS, CUSTOMERS));
    assert!(addresses.items.iter().all(|a| a.country.as_deref() == Some("US")));
    let (carts, _) = shop.carts().list(&CartFilter::default(), &all).await.unwrap();
    assert_eq!(carts.items.len(), 2 * CUSTOMERS);
    for customer in &customers.items {
        let own = |state| {
            carts.items.iter().filter(move |c| c.cart.customer_id == Some(customer.id) && c.cart.state == state)
        };
        let (open, merged): (Vec<_>, Vec<_>) = (own(CartState::Open).collect(), own(CartState::Merged).collect());
        let ([open], [merged]) = (&open[..], &merged[..]) else { panic!("{open:?} {merged:?}") };
        assert_eq!(merged.cart.merged_into, Some(open.cart.id));
        assert_eq!(open.lines.iter().map(|l| l.line.quantity).collect::<Vec<_>>(), [3, 3], "both carts are in one");
    }
}

/// A second import writes nothing.
pub async fn r20_customers_and_carts_are_imported_once(f: &ShopFixture) {
    let [customers, carts] = import(&f.shop).await;
    assert_eq!(
        (customers.inserted, carts.inserted),
        (CUSTOMERS as u64, 2 * CUSTOMERS as u64),
        "{customers:?} {carts:?}"
    );
    assert_imported(&f.shop).await;
    let head = f.shop.events().head().await.unwrap();
    let [customers, carts] = import(&f.shop).await;
    assert_eq!((customers.unchanged, carts.unchanged), (CUSTOMERS as u64, 2 * CUSTOMERS as u64));
    assert_eq!(f.shop.events().head().await.unwrap(), head, "a second import writes no event");
}

/// Several processes import the same files: none is refused, and no row is written twice.
pub async fn r20_imports_of_one_file_at_once_write_each_row_once(f: &ShopFixture) {
    import_products(&f.shop).await;
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let shop = f.shop.clone();
        running.spawn(async move { import(&shop).await });
    }
    let reports = running.join_all().await;
    let sum = |of: fn(&ImportReport) -> u64| reports.iter().flatten().map(of).sum::<u64>();
    assert_eq!((sum(|r| r.rejected), sum(|r| r.inserted)), (0, 3 * CUSTOMERS as u64), "{reports:?}");
    assert_imported(&f.shop).await;
}
