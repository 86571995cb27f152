//! The policy: which rows a permission covers.
//!
//! A permission covers all rows of its kind. A customer may use its own rows without the permissions of
//! [`Permission::covers_own`]: it reads and changes its profile, addresses, carts, orders and reviews, and reads its
//! bills. The services ask [`Principal::reach`] which of the two applies, and check each row with the result.

use crate::domain::access::principal::{Permission, Principal};
use crate::error::{Error, Result};
use crate::id::CustomerId;

impl Permission {
    /// Returns true if a customer may do with its own rows what the permission allows with all rows. The services
    /// restrict some writes further: a customer changes only the names and the telephone of its profile, and changes or
    /// cancels an order only while it is pending.
    pub const fn covers_own(self) -> bool {
        matches!(
            self,
            Self::CustomersRead
                | Self::CustomersWrite
                | Self::OrdersRead
                | Self::OrdersWrite
                | Self::BillsRead
                | Self::CartsRead
                | Self::CartsWrite
                | Self::ReviewsWrite
        )
    }
}

/// The rows that a principal may use in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// All rows, by this permission.
    All,
    /// The rows of this customer, who lacks this permission.
    Own(CustomerId, Permission),
}

impl Principal {
    /// Returns the rows that the principal may use in calls that require a permission.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] and [`Error::Forbidden`], as [`Principal::require`].
    pub(crate) fn reach(&self, permission: Permission) -> Result<Reach> {
        match self.customer() {
            _ if self.may(permission) => Ok(Reach::All),
            Some(customer) if permission.covers_own() => Ok(Reach::Own(customer, permission)),
            _ => Err(self.lacks(permission)),
        }
    }
}

impl Principal {
    /// Refuses a principal who may not do everything that customers may do with their own rows. Whoever decides which
    /// customer a login is could do that otherwise.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] and [`Error::Forbidden`] with the first permission that it lacks.
    pub(crate) fn require_own(&self) -> Result<()> {
        Permission::ALL.iter().filter(|permission| permission.covers_own()).try_for_each(|p| self.require(*p))
    }
}

impl Principal {
    /// Returns true if the principal may read products of every status.
    pub(crate) fn reads_all_products(&self) -> bool {
        self.may(Permission::ProductsRead) || self.may(Permission::ProductsWrite)
    }
}

impl Reach {
    /// Returns true if a row of this customer is covered. Rows without a customer belong to nobody.
    pub fn covers(self, owner: Option<CustomerId>) -> bool {
        match self {
            Self::All => true,
            Self::Own(customer, _) => owner == Some(customer),
        }
    }

    /// Refuses a row that is not covered with the error for a row that does not exist, so that nobody learns which ids
    /// exist.
    ///
    /// # Errors
    /// The error of `gone`.
    pub fn check(self, owner: Option<CustomerId>, gone: impl FnOnce() -> Error) -> Result<()> {
        if self.covers(owner) { Ok(()) } else { Err(gone()) }
    }

    /// Refuses an input that names another customer.
    ///
    /// # Errors
    /// `Forbidden`.
    pub fn check_named(self, named: Option<CustomerId>) -> Result<()> {
        match self {
            Self::Own(_, permission) if !self.covers(named) => Err(Error::Forbidden { permission }),
            _ => Ok(()),
        }
    }

    /// Refuses a part of a call that the owner of a row may not do with it.
    ///
    /// # Errors
    /// `Forbidden`.
    pub fn require_all(self) -> Result<()> {
        match self {
            Self::All => Ok(()),
            Self::Own(_, permission) => Err(Error::Forbidden { permission }),
        }
    }

    /// Narrows a filter by customer to the covered rows.
    ///
    /// # Errors
    /// `Forbidden` if the filter names another customer.
    pub fn narrow(self, filter: Option<CustomerId>) -> Result<Option<CustomerId>> {
        match self {
            Self::All => Ok(filter),
            Self::Own(customer, _) => {
                let named = filter.or(Some(customer));
                self.check_named(named).map(|()| named)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const ADA: CustomerId = CustomerId(Uuid::from_u128(1));
    const BOB: CustomerId = CustomerId(Uuid::from_u128(2));

    #[test]
    fn r16_a_customer_reaches_its_own_rows_and_no_others() {
        let ada = Principal::new("user:ada", []).with_customer(ADA);
        for permission in Permission::ALL {
            match ada.reach(*permission) {
                Ok(reach) => {
                    assert!(permission.covers_own() && reach.covers(Some(ADA)));
                    assert!(!reach.covers(Some(BOB)) && !reach.covers(None));
                    assert_eq!(reach.narrow(None).unwrap(), Some(ADA));
                    assert!(reach.narrow(Some(BOB)).is_err() && reach.require_all().is_err());
                }
                Err(error) => assert!(!permission.covers_own() && matches!(error, Error::Forbidden { .. })),
            }
        }
    }

    #[test]
    fn r16_a_permission_reaches_all_rows_and_a_stranger_none() {
        let clerk = Principal::new("clerk", [Permission::OrdersRead]).with_customer(ADA);
        assert_eq!(clerk.reach(Permission::OrdersRead).unwrap(), Reach::All);
        assert!(matches!(clerk.reach(Permission::BillsRead).unwrap(), Reach::Own(..)));
        for permission in Permission::ALL {
            let refused = Principal::anonymous([]).reach(*permission).unwrap_err();
            assert!(matches!(refused, Error::Unauthenticated));
        }
    }
}
