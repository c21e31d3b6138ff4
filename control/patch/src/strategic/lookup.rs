//! What the schema says of the value that is being merged.

use proto_kube::schema::{Shape, Strategy, Table, Type, TypeId};

use crate::Error;

/// The type of a value.
#[derive(Clone, Copy)]
pub(super) struct Scope<'t> {
    table: &'t Table,
    kind: Kind<'t>,
}

#[derive(Clone, Copy)]
enum Kind<'t> {
    Object(&'t Type),
    Other(&'t Shape),
}

impl<'t> Scope<'t> {
    pub(super) fn of(table: &'t Table, type_id: TypeId) -> Self {
        Self { table, kind: Kind::Object(table.of(type_id)) }
    }

    fn shape(self, shape: &'t Shape) -> Self {
        let kind = match shape {
            Shape::Object(id) => Kind::Object(self.table.of(*id)),
            other => Kind::Other(other),
        };
        Self { kind, ..self }
    }

    /// What the member `key` of an object is, and how it is merged.
    pub(super) fn member(self, key: &str) -> Result<(Self, Option<&'t Strategy>), Error> {
        let (shape, strategy) = self.field(key)?;
        Ok((self.shape(shape), strategy))
    }

    /// What the items of the list `key` of an object are, and how it is merged.
    pub(super) fn list(self, key: &str) -> Result<(Self, Option<&'t Strategy>), Error> {
        let (shape, strategy) = self.field(key)?;
        match shape {
            Shape::List(item) => Ok((self.shape(item), strategy)),
            other => Err(Error::Failed(format!("expected slice or array type, but got: {}", name(other)))),
        }
    }

    fn field(self, key: &str) -> Result<(&'t Shape, Option<&'t Strategy>), Error> {
        let owner = match self.kind {
            Kind::Object(owner) => owner,
            Kind::Other(shape) => {
                return Err(Error::Failed(format!(
                    "merging an object in json but data type is not struct, instead is: {}",
                    name(shape)
                )));
            }
        };
        let field = owner.field(key).ok_or_else(|| {
            let owner = owner.name.rsplit('.').next().unwrap_or_default();
            Error::Failed(format!("unable to find api field in struct {owner} for the json field \"{key}\""))
        })?;
        Ok((&field.shape, field.strategy.as_ref()))
    }

    /// As upstream names what the items of a list are.
    pub(super) fn name(self) -> &'static str {
        match self.kind {
            Kind::Object(_) => "struct",
            Kind::Other(shape) => name(shape),
        }
    }
}

fn name(shape: &Shape) -> &'static str {
    match shape {
        Shape::Bool => "bool",
        Shape::Int32 => "int32",
        Shape::Int64 | Shape::Duration => "int64",
        Shape::Double => "float64",
        Shape::String => "string",
        Shape::Bytes | Shape::List(_) => "slice",
        Shape::Map(_) => "map",
        Shape::Time
        | Shape::MicroTime
        | Shape::Quantity
        | Shape::IntOrString
        | Shape::Raw
        | Shape::Object(_) => "struct",
    }
}
