//! Defaults and identity columns in `information_schema.columns`.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::CatalogProviderList;
use datafusion::common::Constraint;
use datafusion::error::Result;
use datafusion::logical_expr::ptr_eq::PtrEq;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility, ident,
};

use crate::catalog::listed_tables::listed_tables;
use crate::catalog::memory_rows::address;
use crate::catalog::sequences::generated::{self, Identity};
use crate::catalog::sequences::rows::yes_or_no;
use crate::catalog::sequences::sequence::{self, Options};

/// Columns that name a column.
const NAMES: [&str; 4] = ["table_catalog", "table_schema", "table_name", "column_name"];

/// The columns of `information_schema.columns` about identity columns.
pub(crate) const IDENTITY: [Fact; 7] =
    [Fact::IsIdentity, Fact::Generation, Fact::Start, Fact::Increment, Fact::Maximum, Fact::Minimum, Fact::Cycle];

/// Default and identity of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fact {
    Default,
    /// `NO` for a column of a primary key.
    Nullable,
    IsIdentity,
    Generation,
    Start,
    Increment,
    Maximum,
    Minimum,
    Cycle,
}

impl Fact {
    /// Returns the name of its column.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Default => "column_default",
            Self::Nullable => "is_nullable",
            Self::IsIdentity => "is_identity",
            Self::Generation => "identity_generation",
            Self::Start => "identity_start",
            Self::Increment => "identity_increment",
            Self::Maximum => "identity_maximum",
            Self::Minimum => "identity_minimum",
            Self::Cycle => "identity_cycle",
        }
    }

    fn of(self, column: Option<&Column>) -> Option<String> {
        let identity = column.and_then(|column| column.identity.as_ref());
        let number = |number: fn(&Options) -> i64| identity.map(|(_, options)| number(options).to_string());
        match self {
            Self::Default => column?.default.clone(),
            Self::Nullable => column?.is_key.then(|| "NO".to_owned()),
            Self::IsIdentity => Some(yes_or_no(identity.is_some()).to_owned()),
            Self::Generation => identity.map(|(kind, _)| kind.name().to_owned()),
            Self::Start => number(|options| options.start),
            Self::Increment => number(|options| options.increment),
            Self::Maximum => number(|options| options.max),
            Self::Minimum => number(|options| options.min),
            Self::Cycle => Some(yes_or_no(identity.is_some_and(|(_, options)| options.cycles)).to_owned()),
        }
    }
}

#[derive(Debug)]
struct Column {
    default: Option<String>,
    identity: Option<(Identity, Options)>,
    /// True if it belongs to the primary key.
    is_key: bool,
}

/// The columns of a moment that have a default or an identity, or belong to a primary key, by catalog, schema, table and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ColumnFacts(PtrEq<Arc<HashMap<[String; 4], Column>>>);

impl ColumnFacts {
    /// Reads the columns of the catalogs.
    pub(crate) async fn read(catalogs: &dyn CatalogProviderList) -> Result<Self> {
        let tables = listed_tables(catalogs).await?;
        // Options of sequences that belong to a column, by the rows of its table.
        let owned = tables.iter().filter_map(|table| {
            let sequence = sequence::of(table.provider.as_ref())?;
            let owner = sequence.owner()?;
            Some(((owner.rows.as_ptr().addr(), owner.column), sequence.options.clone()))
        });
        let owned: HashMap<(usize, String), Options> = owned.collect();
        let mut columns = HashMap::new();
        for table in &tables {
            let provider = table.provider.as_ref();
            let Some(rows) = address(provider) else { continue };
            let key = provider.constraints().into_iter().flat_map(|all| all.iter()).find_map(|found| match found {
                Constraint::PrimaryKey(columns) => Some(columns.clone()),
                Constraint::Unique(_) => None,
            });
            for (place, field) in provider.schema().fields().iter().enumerate() {
                let is_key = key.as_ref().is_some_and(|key| key.contains(&place));
                let default = generated::default(provider, field.name());
                let identity = generated::identity(provider, field.name());
                let identity =
                    identity.and_then(|kind| Some((kind, owned.get(&(rows, field.name().clone()))?.clone())));
                if default.is_some() || identity.is_some() || is_key {
                    let names = [&table.catalog, &table.schema, &table.name, field.name()].map(String::clone);
                    columns.insert(names, Column { default, identity, is_key });
                }
            }
        }
        Ok(Self(PtrEq::from(Arc::new(columns))))
    }

    /// Returns the value of a column of the view.
    pub(crate) fn output(&self, fact: Fact) -> Expr {
        let signature = Signature::exact(vec![DataType::Utf8; NAMES.len()], Volatility::Stable);
        let function = ColumnFact { fact, columns: self.clone(), signature };
        ScalarUDF::from(function).call(NAMES.map(ident).to_vec()).alias(fact.name())
    }
}

/// A fact about columns, which are given by their names.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ColumnFact {
    fact: Fact,
    columns: ColumnFacts,
    signature: Signature,
}

impl ScalarUDFImpl for ColumnFact {
    fn name(&self) -> &str {
        self.fact.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let names = args.args.iter().map(|arg| Ok(cast(&arg.to_array(args.number_rows)?, &DataType::Utf8)?));
        let names = names.collect::<Result<Vec<_>>>()?;
        let of = |row: usize| {
            let name = [0, 1, 2, 3].map(|place| names[place].as_string::<i32>().value(row).to_owned());
            self.fact.of(self.columns.0.get(&name))
        };
        Ok(ColumnarValue::Array(Arc::new((0..args.number_rows).map(of).collect::<StringArray>())))
    }
}

/// `pg_get_expr(text, relation [, pretty])`: the text of a default, which the catalog keeps as it is shown.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct PgGetExpr {
    signature: Signature,
}

impl PgGetExpr {
    pub(crate) fn new() -> Self {
        let forms = vec![TypeSignature::Any(2), TypeSignature::Any(3)];
        Self { signature: Signature::one_of(forms, Volatility::Stable) }
    }
}

impl ScalarUDFImpl for PgGetExpr {
    fn name(&self) -> &str {
        "pg_get_expr"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Array(cast(&args.args[0].to_array(args.number_rows)?, &DataType::Utf8)?))
    }
}
