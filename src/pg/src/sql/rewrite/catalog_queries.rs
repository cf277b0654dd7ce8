//! Rewrites of clients' queries of the Postgres catalog into ones that DataFusion can plan.
//!
//! pg-catalog has rewrites for the queries of drivers, and they take liberties: a correlated subquery in a projection
//! becomes NULL. So they see nothing but the parts of a statement that read `pg_catalog` or `information_schema`: a
//! query, a subquery, a common table expression, an arm of a UNION. The queries inside such a part are taken out
//! before and put back after.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::LazyLock;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, DataType, Expr, FunctionArguments, GroupByExpr, Ident, ObjectName, ObjectNamePart,
    Query, Select, SelectItem, SetExpr, Statement, Subscript, TableFactor, TableWithJoins, Value, ValueWithSpan,
    VisitMut, VisitorMut, visit_expressions, visit_expressions_mut, visit_relations, visit_relations_mut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::PG_CATALOG_TABLES;
use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;

use crate::catalog::columns::COLUMNS;
use crate::catalog::keys::{INDEX_LIST, INFORMATION_SCHEMA};
use crate::catalog::sequences::{INFORMATION_SCHEMA as OF_SEQUENCES, PG_SEQUENCES, TABLES};
use crate::catalog::{STAT_ACTIVITY, session_tables};
use crate::sql::column_names::fold;
use crate::sql::figured_names::item_name;
use crate::sql::rewrite::object_casts;
use crate::sql::rewrite::{array_of, call, cast, is_named, partitions, sequences};

/// Tables of the catalog about objects that neuroql does not have: role memberships, policies, triggers. Scalar subqueries of them
/// are NULL: DataFusion cannot plan some queries of them by drivers.
const EMPTY: [&str; 6] =
    ["pg_collation", "pg_auth_members", "pg_policy", "pg_inherits", "pg_publication_rel", "pg_trigger"];

/// Tables that pg-catalog does not know.
const OWN: [&str; 3] = [STAT_ACTIVITY, INDEX_LIST, PG_SEQUENCES];

/// Columns of `pg_index` whose items PostgreSQL counts from 0.
const VECTORS: [&str; 4] = ["indkey", "indcollation", "indclass", "indoption"];

/// Rewrites the parts of a statement that read the catalog.
pub(crate) fn rewrite(statement: &mut Statement, text: &str, compatible: &PostgresCompatibilityParser) {
    if let Some(known) = known_query(statement, text, compatible) {
        *statement = known;
        return;
    }
    partitions::leave_out(statement);
    // A view is kept as a text that the engine reads, too, which has no such table of its own.
    let is_view = matches!(statement, Statement::CreateView(_));
    rewrite_tree(statement, &Rewriter { compatible, is_view });
}

/// Rewrites the queries in a piece of syntax that is no query itself.
pub(crate) fn rewrite_parts(tree: &mut impl VisitMut, compatible: &PostgresCompatibilityParser) {
    rewrite_tree(tree, &Rewriter { compatible, is_view: false });
}

fn rewrite_tree(tree: &mut impl VisitMut, rewriter: &Rewriter<'_>) {
    let mut hider = QueryExtractor::default();
    let _: ControlFlow<()> = tree.visit(&mut hider);
    if hider.hidden.is_empty() {
        return;
    }
    let parts = hider.hidden.into_iter().map(|query| rewriter.part(query, &Scope::new())).collect();
    let _: ControlFlow<()> = tree.visit(&mut QueryRestorer { parts, in_catalog: false });
}

/// Returns pg-catalog's replacement for a whole query of psql or pgcli that it knows word by word. Only queries of the
/// catalog alone are replaced.
fn known_query(statement: &Statement, text: &str, compatible: &PostgresCompatibilityParser) -> Option<Statement> {
    let Statement::Query(query) = statement else { return None };
    let mut reads = false;
    let foreign = visit_relations(query.as_ref(), |name| {
        let here = in_catalog(name, &Scope::new());
        reads |= here;
        // A single name may be that of a common table expression or a function.
        if here || name.0.len() == 1 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    if foreign.is_break() || !reads {
        return None;
    }
    let plain = Parser::parse_sql(&PostgreSqlDialect {}, text).ok()?.pop()?;
    let replaced = compatible.parse(text).ok()?.pop()?;
    (compatible.rewrite(plain) != replaced).then_some(replaced)
}

/// The common table expressions in scope; true for those that read the catalog.
type Scope = HashMap<String, bool>;

struct Rewriter<'a> {
    compatible: &'a PostgresCompatibilityParser,
    /// True for the query of a view.
    is_view: bool,
}

/// A query that was taken out of a statement.
struct ExtractedQuery {
    query: Query,
    /// True if it has no rows because neuroql has no such objects.
    empty: bool,
    /// True if it unnests a table's storage options, of which there are none.
    options: bool,
    /// True if it looks up one row of the catalog.
    lookup: bool,
    /// The options of an identity column, if it looks those up.
    identity: Option<Expr>,
    reads: bool,
}

impl Rewriter<'_> {
    fn part(&self, mut query: Query, scope: &Scope) -> ExtractedQuery {
        let (mut empty, mut options, mut lookup) = (false, false, false);
        if let SetExpr::Select(select) = query.body.as_ref() {
            empty = tables(&select.from).any(|table| is_empty(table, scope));
            options = tables(&select.from).any(is_of_options);
            lookup = looks_up(&query, select, scope);
        }
        let identity = sequences::identity(&query);
        let reads = self.query(&mut query, scope);
        ExtractedQuery { query, empty, options, lookup, identity, reads }
    }

    /// Rewrites a query; returns true if it reads the catalog.
    fn query(&self, query: &mut Query, scope: &Scope) -> bool {
        let mut scope = scope.clone();
        let mut with = query.with.take();
        if let Some(with) = &mut with {
            for table in &mut with.cte_tables {
                let name = fold(&table.alias.name);
                if with.recursive {
                    scope.insert(name.clone(), false);
                }
                let reads = self.query(&mut table.query, &scope);
                scope.insert(name, reads);
            }
        }
        let reads = match query.body.as_mut() {
            SetExpr::Select(_) => self.select(query, &scope),
            body => {
                let reads = self.arms(body, &scope);
                // The rest are limits and the like.
                self.others(query, &scope);
                reads
            }
        };
        query.with = with;
        reads
    }

    fn arms(&self, body: &mut SetExpr, scope: &Scope) -> bool {
        match body {
            SetExpr::SetOperation { left, right, .. } => {
                let left = self.arms(left, scope);
                self.arms(right, scope) && left
            }
            SetExpr::Query(query) => self.query(query, scope),
            SetExpr::Select(_) => {
                let mut query = TEMPLATE.clone();
                std::mem::swap(query.body.as_mut(), body);
                let reads = self.select(&mut query, scope);
                std::mem::swap(query.body.as_mut(), body);
                reads
            }
            other => {
                let mut hider = QueryExtractor::default();
                let _: ControlFlow<()> = other.visit(&mut hider);
                let parts = hider.hidden.into_iter().map(|query| self.part(query, scope)).collect();
                let _: ControlFlow<()> = other.visit(&mut QueryRestorer { parts, in_catalog: false });
                false
            }
        }
    }

    /// Rewrites the queries in ORDER BY and LIMIT of a set operation.
    fn others(&self, query: &mut Query, scope: &Scope) {
        let mut hider = QueryExtractor::default();
        let _ = query.order_by.visit(&mut hider);
        let _ = query.limit_clause.visit(&mut hider);
        let parts = hider.hidden.into_iter().map(|query| self.part(query, scope)).collect();
        let mut restorer = QueryRestorer { parts, in_catalog: false };
        let _ = query.order_by.visit(&mut restorer);
        let _ = query.limit_clause.visit(&mut restorer);
    }

    fn select(&self, query: &mut Query, scope: &Scope) -> bool {
        let mut hider = QueryExtractor::default();
        let _ = query.body.visit(&mut hider);
        let _ = query.order_by.visit(&mut hider);
        let _ = query.limit_clause.visit(&mut hider);
        let parts: Vec<ExtractedQuery> = hider.hidden.into_iter().map(|query| self.part(query, scope)).collect();
        let reads = match query.body.as_ref() {
            SetExpr::Select(select) => reads(select, scope, &parts),
            _ => false,
        };
        if reads {
            qualify_own(query, scope);
            read_keys(query, self.is_view);
            object_casts::rewrite_comparisons(query);
            let whole = std::mem::replace(query, TEMPLATE.clone());
            if let Statement::Query(rewritten) = self.compatible.rewrite(Statement::Query(Box::new(whole))) {
                *query = *rewritten;
            }
        }
        let mut restorer = QueryRestorer { parts, in_catalog: reads };
        let _ = query.body.visit(&mut restorer);
        let _ = query.order_by.visit(&mut restorer);
        let _ = query.limit_clause.visit(&mut restorer);
        reads
    }
}

/// Returns true if one table is in the catalog, or all of them are queries of it.
fn reads(select: &Select, scope: &Scope, parts: &[ExtractedQuery]) -> bool {
    let through = |table: &TableFactor| match table {
        TableFactor::Derived { subquery, .. } => {
            number(subquery).and_then(|number| parts.get(number)).is_some_and(|part| part.reads)
        }
        TableFactor::Table { name, .. } => match name.0.as_slice() {
            [part] => part.as_ident().and_then(|name| scope.get(&fold(name))).is_some_and(|reads| *reads),
            _ => false,
        },
        _ => false,
    };
    let direct =
        |table: &TableFactor| matches!(table, TableFactor::Table { name, args: None, .. } if in_catalog(name, scope));
    tables(&select.from).any(direct)
        || (tables(&select.from).any(through) && tables(&select.from).all(|table| through(table) || is_function(table)))
}

fn is_function(table: &TableFactor) -> bool {
    matches!(
        table,
        TableFactor::Table { args: Some(_), .. } | TableFactor::Function { .. } | TableFactor::UNNEST { .. }
    )
}

/// Returns the tables of a FROM, those in parentheses too.
fn tables(from: &[TableWithJoins]) -> Box<dyn Iterator<Item = &TableFactor> + '_> {
    let each = from
        .iter()
        .flat_map(|from| std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)));
    Box::new(each.flat_map(|table| match table {
        TableFactor::NestedJoin { table_with_joins, .. } => tables(std::slice::from_ref(table_with_joins)),
        other => Box::new(std::iter::once(other)),
    }))
}

/// Returns true if a name is looked up in `pg_catalog` or `information_schema`. As in Postgres, `pg_catalog` comes
/// before the schemas of the search path.
fn in_catalog(name: &ObjectName, scope: &Scope) -> bool {
    let parts: Option<Vec<_>> = name.0.iter().map(|part| part.as_ident().map(fold)).collect();
    match parts.as_deref() {
        Some([name]) => !scope.contains_key(name) && is_catalog_table(name),
        Some([.., schema, _]) => schema == "pg_catalog" || schema == "information_schema",
        _ => false,
    }
}

fn last(name: &ObjectName) -> Option<String> {
    name.0.last().and_then(|part| part.as_ident()).map(fold)
}

fn is_empty(table: &TableFactor, scope: &Scope) -> bool {
    match table {
        TableFactor::Table { name, args: None, .. } => {
            in_catalog(name, scope) && last(name).is_some_and(|name| EMPTY.contains(&name.as_str()))
        }
        _ => false,
    }
}

/// Returns true for a table's storage options in the form of psql's queries.
fn is_of_options(table: &TableFactor) -> bool {
    is_function(table) && table.to_string().contains("reloptions")
}

/// Returns true if a subquery looks up one row of the catalog. DataFusion needs a correlated subquery to be an
/// aggregate, so that it has one row; the least of one value is that value.
fn looks_up(query: &Query, select: &Select, scope: &Scope) -> bool {
    let plain =
        |table: &TableFactor| matches!(table, TableFactor::Table { name, args: None, .. } if in_catalog(name, scope));
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty());
    !select.from.is_empty()
        && tables(&select.from).all(plain)
        && !grouped
        && select.selection.is_some()
        && select.distinct.is_none()
        && query.order_by.is_none()
}

fn aggregate(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let [item] = select.projection.as_mut_slice() else { return };
    let name = item_name(item);
    if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item
        && !contains_aggregate(expr)
    {
        let expr = call("min", vec![std::mem::replace(expr, Expr::value(Value::Null))]);
        *item = match name {
            Some(name) => SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name) },
            None => SelectItem::UnnamedExpr(expr),
        };
        query.limit_clause = None;
        query.fetch = None;
    }
}

/// Makes the rows of a query one array, if the query is a plain one; returns true if it was.
fn collect(query: &mut Query) -> bool {
    let SetExpr::Select(select) = query.body.as_mut() else { return false };
    let plain = matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty())
        && select.distinct.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none();
    match select.projection.as_mut_slice() {
        [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }]
            if plain && !contains_aggregate(expr) =>
        {
            *expr = call("array_agg", vec![std::mem::replace(expr, Expr::value(Value::Null))]);
            true
        }
        _ => false,
    }
}

fn contains_aggregate(expr: &Expr) -> bool {
    const AGGREGATES: [&str; 9] =
        ["count", "min", "max", "sum", "avg", "array_agg", "string_agg", "bool_and", "bool_or"];
    let found = visit_expressions(expr, |part| match part {
        Expr::Function(function) if AGGREGATES.iter().any(|name| is_named(function, name)) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// Beginning of the text that stands for a hidden query, and that no user writes.
const MARK: &str = "\u{f8ff}neuroql query ";

static TEMPLATE: LazyLock<Query> = LazyLock::new(|| {
    let parsed = Parser::parse_sql(&PostgreSqlDialect {}, "SELECT ''").map(|mut parsed| parsed.pop());
    match parsed {
        Ok(Some(Statement::Query(query))) => *query,
        _ => unreachable!("a constant query"),
    }
});

/// Returns a query of some expressions and no table.
pub(crate) fn select(expressions: Vec<Expr>) -> Query {
    let mut query = TEMPLATE.clone();
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.projection = expressions.into_iter().map(SelectItem::UnnamedExpr).collect();
    }
    query
}

/// Returns the number of a hidden query.
fn number(query: &Query) -> Option<usize> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    match select.projection.as_slice() {
        [SelectItem::UnnamedExpr(Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }))] => {
            text.strip_prefix(MARK)?.parse().ok()
        }
        _ => None,
    }
}

/// Takes out the outermost queries of a tree.
#[derive(Default)]
struct QueryExtractor {
    hidden: Vec<Query>,
}

impl VisitorMut for QueryExtractor {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if number(query).is_some() {
            return ControlFlow::Continue(());
        }
        let text = format!("{MARK}{}", self.hidden.len());
        let stand_in = select(vec![Expr::value(Value::SingleQuotedString(text))]);
        self.hidden.push(std::mem::replace(query, stand_in));
        ControlFlow::Continue(())
    }
}

/// Puts queries back.
struct QueryRestorer {
    parts: Vec<ExtractedQuery>,
    /// True if the queries stand in a part that reads the catalog.
    in_catalog: bool,
}

impl VisitorMut for QueryRestorer {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Subquery(query) => {
                let Some(part) = number(query).and_then(|number| self.parts.get_mut(number)) else {
                    return ControlFlow::Continue(());
                };
                if part.empty || (part.options && self.in_catalog) {
                    *expr = null(DataType::Text);
                } else if let Some(options) = &part.identity {
                    *expr = options.clone();
                } else if part.lookup {
                    aggregate(&mut part.query);
                    if let Some(condition) = sequences::outer_condition(&mut part.query) {
                        let found = std::mem::replace(expr, Expr::value(Value::Null));
                        *expr = sequences::only_if(condition, found);
                    }
                }
            }
            Expr::Function(function) if is_named(function, "array") => {
                let FunctionArguments::Subquery(query) = &mut function.args else { return ControlFlow::Continue(()) };
                let Some(part) = number(query).and_then(|number| self.parts.get_mut(number)) else {
                    return ControlFlow::Continue(());
                };
                if part.empty || (part.options && self.in_catalog) {
                    *expr = null(array_of(DataType::Text));
                } else if part.reads && collect(&mut part.query) {
                    *expr = Expr::Subquery(query.clone());
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let Some(part) = number(query).and_then(|number| self.parts.get(number)) {
            *query = part.query.clone();
        }
        ControlFlow::Continue(())
    }
}

fn null(data_type: DataType) -> Expr {
    cast(Expr::value(Value::Null), data_type)
}

/// Adds the schema to a table of pg_catalog that pg-catalog, which adds it to its own, does not know.
fn qualify_own(query: &mut Query, scope: &Scope) {
    let _ = visit_relations_mut(query, |name| {
        if let [table] = name.0.as_slice()
            && let Some(table) = table.as_ident().map(fold)
            && is_own_table(&table)
            && !scope.contains_key(&table)
        {
            name.0.insert(0, ObjectNamePart::Identifier(Ident::new("pg_catalog")));
        }
        ControlFlow::<()>::Continue(())
    });
}

/// Reads views of `information_schema` about keys and columns from `pg_catalog`, where they are, and counts the items of the
/// vectors of an index from 1: as `int2vector` and `oidvector` they begin at 0, and arrays begin at 1.
fn read_keys(query: &mut Query, is_view: bool) {
    let moved = |schema: &Ident, table: &Ident| {
        let table = fold(table);
        let moved = table == COLUMNS || INFORMATION_SCHEMA.iter().chain(&OF_SEQUENCES).any(|known| *known == table);
        fold(schema) == "information_schema" && moved && !(is_view && table == TABLES)
    };
    let _ = visit_relations_mut(query, |name| {
        if let [.., ObjectNamePart::Identifier(schema), ObjectNamePart::Identifier(table)] = name.0.as_mut_slice()
            && moved(schema, table)
        {
            *schema = Ident::new("pg_catalog");
        }
        ControlFlow::<()>::Continue(())
    });
    let _ = visit_expressions_mut(query, |expr| {
        match expr {
            Expr::CompoundIdentifier(parts) => {
                if let [.., schema, table, _] = parts.as_mut_slice()
                    && moved(schema, table)
                {
                    *schema = Ident::new("pg_catalog");
                }
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                if let Some((vector, index)) = item_of_vector(root, access_chain) {
                    let index = Expr::BinaryOp {
                        left: Box::new(Expr::Nested(Box::new(index))),
                        op: BinaryOperator::Plus,
                        right: Box::new(Expr::value(Value::Number("1".into(), false))),
                    };
                    *expr = call("array_element", vec![vector, index]);
                }
            }
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
}

/// Returns a column of vectors of `pg_index` and the subscript of its item.
fn item_of_vector(root: &Expr, access_chain: &[AccessExpr]) -> Option<(Expr, Expr)> {
    let [fields @ .., AccessExpr::Subscript(Subscript::Index { index })] = access_chain else { return None };
    let mut parts = match root {
        Expr::Identifier(part) => vec![part.clone()],
        Expr::CompoundIdentifier(parts) => parts.clone(),
        _ => return None,
    };
    for field in fields {
        let AccessExpr::Dot(Expr::Identifier(part)) = field else { return None };
        parts.push(part.clone());
    }
    if !parts.last().is_some_and(names_vector) {
        return None;
    }
    let vector = match parts.len() {
        1 => Expr::Identifier(parts.remove(0)),
        _ => Expr::CompoundIdentifier(parts),
    };
    Some((vector, index.clone()))
}

fn names_vector(name: &Ident) -> bool {
    VECTORS.contains(&fold(name).as_str())
}

/// Returns true for a column of vectors of `pg_index`.
pub(super) fn is_vector(expr: &Expr) -> bool {
    match expr {
        Expr::Identifier(name) => names_vector(name),
        Expr::CompoundIdentifier(parts) => parts.last().is_some_and(names_vector),
        _ => false,
    }
}

/// Returns true for a table of pg_catalog, which is found without its schema.
fn is_catalog_table(name: &str) -> bool {
    is_own_table(name) || PG_CATALOG_TABLES.contains(&name)
}

/// Returns true for a table of pg_catalog that pg-catalog does not know.
fn is_own_table(name: &str) -> bool {
    OWN.contains(&name) || session_tables::NAMES.contains(&name)
}

#[cfg(test)]
mod tests {
    use crate::sql::rewrite::rewritten;

    #[test]
    fn own_statements_stay_as_they_are() {
        let subquery = "(SELECT max(g.nodes) FROM toy.graphs g WHERE g.layer = n.layer)";
        let select = format!("SELECT n.layer, {subquery} AS nodes, 'pg_x' AS x FROM toy.neurons n");
        for statement in [
            select.clone(),
            format!("CREATE VIEW v AS {select}"),
            format!("CREATE TABLE v AS {select}"),
            format!("INSERT INTO v {select}"),
            format!("PREPARE p AS {select}"),
            format!("EXPLAIN {select}"),
            "SELECT (SELECT pg_class.x FROM pg_mine pg_class WHERE pg_class.y = n.y) FROM toy.neurons n".into(),
            "SELECT (SELECT p.x FROM s.pg_class p WHERE p.y = n.y) AS information_schema FROM toy.neurons n".into(),
            "WITH pg_class AS (SELECT 1 AS x) SELECT (SELECT p.x FROM pg_class p WHERE p.x = n.layer) FROM n".into(),
            "SELECT a FROM pg_mine WHERE a = ANY(ARRAY['x'])".into(),
        ] {
            assert_eq!(rewritten(&statement), statement);
        }
    }

    #[test]
    fn only_the_part_that_reads_the_catalog_is_rewritten() {
        let own = "(SELECT max(g.nodes) FROM toy.graphs g WHERE g.layer = n.layer)";
        let mixed = rewritten(&format!("SELECT {own}, (SELECT count(*) FROM pg_class) FROM toy.neurons n"));
        assert_eq!(mixed, format!("SELECT {own}, (SELECT count(*) FROM pg_catalog.pg_class) FROM toy.neurons n"));
        let own = "(SELECT max(g.nodes) FROM toy.graphs g WHERE g.text = c.relname)";
        let outer = rewritten(&format!("SELECT c.oid, {own} FROM pg_class c"));
        assert_eq!(outer, format!("SELECT c.oid, {own} FROM pg_catalog.pg_class c"));
        let arms = rewritten("SELECT a COLLATE \"C\" FROM t UNION ALL SELECT relname COLLATE \"C\" FROM pg_class");
        assert_eq!(arms, "SELECT a FROM t UNION ALL SELECT relname FROM pg_catalog.pg_class");
        let with = rewritten("WITH c AS (SELECT oid FROM pg_class), t AS (SELECT a FROM u) SELECT * FROM c, t");
        assert!(with.contains("FROM pg_catalog.pg_class") && with.contains("SELECT a FROM u"), "{with}");
    }

    #[test]
    fn keys_are_read_from_pg_catalog() {
        let query = "SELECT table_constraints.table_name FROM information_schema.table_constraints";
        let moved = "SELECT table_constraints.table_name FROM pg_catalog.table_constraints";
        assert_eq!(rewritten(query), moved);
        let query = "SELECT i.indkey[a.attnum - 1] FROM pg_index i, pg_attribute a";
        assert!(rewritten(query).contains("array_element(i.indkey, (a.attnum - 1) + 1)"), "{}", rewritten(query));
        let own = "SELECT t.indkey[1] FROM t, information_schema_of.table_constraints";
        assert_eq!(rewritten(own), own);
    }

    #[test]
    fn what_the_catalog_lacks_is_null_and_rows_of_it_are_looked_up() {
        let query =
            "SELECT (SELECT d.polname FROM pg_policy AS d WHERE d.polrelid = a.attrelid) FROM pg_attribute AS a";
        assert!(!rewritten(query).contains("pg_policy"), "{}", rewritten(query));
        let query = "SELECT (SELECT c.relname FROM pg_class c WHERE c.oid = a.attrelid) FROM pg_attribute a";
        let lookup = "SELECT min(c.relname) FROM pg_catalog.pg_class";
        assert!(rewritten(query).contains(lookup), "{}", rewritten(query));
        let own = "SELECT (SELECT u.a FROM u WHERE u.b = t.b) FROM t";
        assert_eq!(rewritten(own), own);
    }
}
