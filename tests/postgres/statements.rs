//! Seeded statements: queries over three small tables.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::expressions::{AGGREGATES, Arg, Rule, WINDOWS, rules};
use super::tree::{Kind, Tree};
use super::values::{Datum, PLAIN, Ty, Value, datum, pick, value};

/// A query and properties of its answer.
#[derive(Debug, Clone)]
pub struct Statement {
    pub tree: Tree,
    /// True if its order is that of a key, so that rows can be compared one by one.
    pub ordered: bool,
}

/// A table that statements read.
#[derive(Debug, Clone)]
pub struct Table {
    pub name: &'static str,
    /// Columns beside `id`, which counts the rows from 1.
    pub columns: Vec<(&'static str, Ty)>,
    pub rows: Vec<Vec<Value>>,
}

impl Table {
    /// Returns the query whose rows it holds.
    pub fn query(&self) -> String {
        let row = |(index, row): (usize, &Vec<Value>)| {
            let values: String = row.iter().map(|value| format!(", {}", value.literal(4))).collect();
            format!("({}::int{values})", index + 1)
        };
        let nothing: Vec<Value> = self.columns.iter().map(|(_, ty)| Value { ty: *ty, datum: Datum::Null }).collect();
        let rows: Vec<String> = match self.rows.is_empty() {
            true => vec![row((0, &nothing))],
            false => self.rows.iter().enumerate().map(row).collect(),
        };
        let names: String = self.columns.iter().map(|(name, _)| format!(", {name}")).collect();
        let filter = if self.rows.is_empty() { " WHERE false" } else { "" };
        format!("SELECT * FROM (VALUES {}) AS v(id{names}){filter}", rows.join(", "))
    }
}

#[derive(Debug, Clone)]
struct Column {
    name: String,
    ty: Ty,
}

/// SQL and columns of a FROM clause.
struct From {
    sql: Tree,
    columns: Vec<Column>,
    /// Columns that together are unique; none if there is no such key.
    keys: Vec<String>,
}

/// Generator of statements from a seed.
pub struct Generator {
    rng: StdRng,
    scopes: Vec<Vec<Column>>,
    /// The outermost scope that expressions may use.
    floor: usize,
    aliases: u32,
    /// True if outputs of the outermost query have no names of their own.
    unnamed: bool,
}

/// Returns a type of a result's column: each plain one, and some arrays.
fn any_type(rng: &mut StdRng) -> Ty {
    if rng.random_ratio(1, 6) {
        return *pick(rng, &[Ty::Int4, Ty::Text, Ty::Int4, Ty::Text, *pick(&mut rng.clone(), &PLAIN)]);
    }
    if rng.random_ratio(1, 5) {
        let item = if rng.random() { Ty::Int4 } else { Ty::Text };
        return if rng.random_ratio(1, 3) { pick(rng, &PLAIN).array() } else { item.array() };
    }
    *pick(rng, &PLAIN)
}

impl Generator {
    /// Creates the generator of one statement.
    pub fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), scopes: Vec::new(), floor: 0, aliases: 0, unnamed: false }
    }

    /// Returns the tables that statements read.
    pub fn tables(&mut self) -> Vec<Table> {
        let arrays = [Ty::Array(&Ty::Int4), Ty::Array(&Ty::Text)];
        let wide = PLAIN.into_iter().chain(arrays).map(|ty| (column_of(ty), ty)).collect();
        let narrow = vec![("k", Ty::Int4), ("s", Ty::Text), ("x", Ty::Float8), ("b", Ty::Bool)];
        vec![self.table("d1", wide, 8), self.table("d2", narrow, 6), self.table("d0", vec![("s", Ty::Text)], 0)]
    }

    fn table(&mut self, name: &'static str, columns: Vec<(&'static str, Ty)>, rows: usize) -> Table {
        let row = |rng: &mut StdRng| columns.iter().map(|(_, ty)| value(rng, *ty)).collect();
        let rows = (0..rows).map(|_| row(&mut self.rng)).collect();
        Table { name, columns, rows }
    }

    /// Returns a query with one to three columns.
    pub fn statement(&mut self) -> Statement {
        let count = *pick(&mut self.rng, &[1, 1, 1, 2, 3]);
        let types: Vec<Ty> = (0..count).map(|_| any_type(&mut self.rng)).collect();
        let depth = *pick(&mut self.rng, &[1, 1, 2, 2, 3]);
        self.unnamed = self.one_in(4);
        let (tree, ordered) = self.query(&types, depth, true);
        Statement { tree, ordered }
    }

    fn one_in(&mut self, count: u32) -> bool {
        self.rng.random_ratio(1, count)
    }

    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("q{}", self.aliases)
    }

    /// Returns a query with columns c1, c2, … of these types; true if its order is that of a key.
    fn query(&mut self, types: &[Ty], depth: u32, top: bool) -> (Tree, bool) {
        match self.rng.random_range(0..20) {
            0..4 => (self.without_from(types, depth, top), true),
            4..12 => self.select(types, depth, top, false),
            12..14 => self.select(types, depth, top, true),
            14..16 => (self.grouped(types, depth, top), false),
            16 => (self.set_operation(types, depth), false),
            17 => (self.rows(types, depth), false),
            _ => self.with(types, depth, top),
        }
    }

    /// Returns the outputs of a query; those after the first can be left out.
    fn outputs(&mut self, types: &[Ty], top: bool, mut each: impl FnMut(&mut Self, Ty) -> Tree) -> Tree {
        let unnamed = top && self.unnamed;
        let outputs: Vec<Tree> = types
            .iter()
            .zip(1..)
            .map(|(ty, place)| {
                let name = if unnamed { String::new() } else { format!(" AS c{place}") };
                match place {
                    1 => Tree::fixed(&format!("{{}}{name}"), [each(self, *ty)]),
                    _ => Tree::new(Kind::Optional, &format!(", {{}}{name}"), [each(self, *ty)]),
                }
            })
            .collect();
        Tree::join(outputs, "")
    }

    fn without_from(&mut self, types: &[Ty], depth: u32, top: bool) -> Tree {
        let outputs = self.outputs(types, top, |this, ty| this.expr(ty, depth));
        let filter = if self.one_in(6) { self.optional(" WHERE {}", Ty::Bool, depth) } else { Tree::empty() };
        Tree::fixed("SELECT {}{}", [outputs, filter])
    }

    fn optional(&mut self, template: &str, ty: Ty, depth: u32) -> Tree {
        let expr = self.expr(ty, depth);
        Tree::new(Kind::Optional, template, [expr])
    }

    fn select(&mut self, types: &[Ty], depth: u32, top: bool, windows: bool) -> (Tree, bool) {
        let from = self.from(depth);
        self.scopes.push(from.columns);
        let keys = from.keys;
        let outputs = self
            .outputs(types, top, |this, ty| if windows { this.window(ty, &keys, depth) } else { this.expr(ty, depth) });
        let filter = if self.one_in(2) { self.optional(" WHERE {}", Ty::Bool, depth) } else { Tree::empty() };
        let unique = !keys.is_empty();
        let kind = self.rng.random_range(0..8);
        let (distinct, order, ordered) = match kind {
            0 => ("DISTINCT ", Tree::empty(), false),
            1 if unique => {
                let column = self.column();
                ("DISTINCT ON (1) ", Tree::sql(format!(" ORDER BY 1, {column}, {}", keys.join(", "))), false)
            }
            // The order inside another query says nothing, and need not be evaluated.
            2..=4 if unique && top => {
                let ty = any_type(&mut self.rng);
                let first = self.expr(ty, 1);
                let nulls = *pick(&mut self.rng, &["", " ASC", " DESC", " NULLS FIRST", " DESC NULLS LAST"]);
                // A bare whole number would be a column's position.
                let first = Tree::new(Kind::Optional, &format!("coalesce({{}}, NULL){nulls}, "), [first]);
                ("", Tree::fixed(&format!(" ORDER BY {{}}{}", keys.join(", ")), [first]), true)
            }
            _ if unique => ("", Tree::sql(format!(" ORDER BY {}", keys.join(" DESC, "))), true),
            _ => ("", Tree::empty(), false),
        };
        self.scopes.pop();
        let limit = if ordered && (!top || self.one_in(2)) && self.one_in(2) { self.limit() } else { Tree::empty() };
        let template = format!("SELECT {distinct}{{}} FROM {{}}{{}}{{}}{{}}");
        (Tree::fixed(&template, [outputs, from.sql, filter, order, limit]), ordered)
    }

    fn limit(&mut self) -> Tree {
        let count = Datum::Int(self.rng.random_range(0..4));
        let count = self.leaf_value(Value { ty: Ty::Int8, datum: count });
        match self.rng.random_range(0..4) {
            0 => Tree::new(Kind::Optional, " OFFSET {}", [count]),
            1 => Tree::new(Kind::Optional, " LIMIT {} OFFSET 1", [count]),
            2 => Tree::new(Kind::Optional, " FETCH FIRST 2 ROWS ONLY", []),
            _ => Tree::new(Kind::Optional, " LIMIT {}", [count]),
        }
    }

    fn grouped(&mut self, types: &[Ty], depth: u32, top: bool) -> Tree {
        let from = self.from(depth);
        self.scopes.push(from.columns);
        let floor = std::mem::replace(&mut self.floor, self.scopes.len() - 1);
        let mut keys = Vec::new();
        let mut place = 0;
        let outputs = self.outputs(types, top, |this, ty| {
            place += 1;
            if place < types.len() && this.one_in(2) {
                keys.push(place.to_string());
                return this.expr(ty, depth.min(1));
            }
            this.aggregate(ty, &from.keys, depth)
        });
        let filter = if self.one_in(3) { self.optional(" WHERE {}", Ty::Bool, depth) } else { Tree::empty() };
        let having = if self.one_in(3) {
            Tree::new(Kind::Optional, " HAVING count(*) > {}", [self.small()])
        } else {
            Tree::empty()
        };
        self.floor = floor;
        self.scopes.pop();
        let group = if keys.is_empty() { Tree::empty() } else { Tree::sql(format!(" GROUP BY {}", keys.join(", "))) };
        Tree::fixed("SELECT {} FROM {}{}{}{}", [outputs, from.sql, filter, group, having])
    }

    /// Returns an aggregate of a type, or an expression of one.
    fn aggregate(&mut self, ty: Ty, keys: &[String], depth: u32) -> Tree {
        let fitting: Vec<_> = AGGREGATES
            .iter()
            .filter(|(of, template, _)| *of == ty && (!keys.is_empty() || !template.contains("{id}")))
            .collect();
        if fitting.is_empty() {
            let count = Tree::new(Kind::Expr(Ty::Int8), "count(*)", []);
            let value = self.leaf_constant(ty);
            return Tree::new(Kind::Expr(ty), "CASE WHEN {} > 2 THEN {} END", [count, value]);
        }
        let (_, template, arguments) = **pick(&mut self.rng, &fitting);
        let template = template.replace("{id}", &keys.join(", "));
        let arguments: Vec<Tree> = arguments.iter().map(|arg| self.argument(*arg, depth.min(1))).collect();
        Tree::new(Kind::Expr(ty), &template, arguments)
    }

    fn window(&mut self, ty: Ty, keys: &[String], depth: u32) -> Tree {
        let fitting: Vec<_> = WINDOWS.iter().filter(|(of, ..)| *of == ty).collect();
        if fitting.is_empty() || keys.is_empty() || self.one_in(4) {
            return self.expr(ty, depth);
        }
        let (_, template, arguments) = **pick(&mut self.rng, &fitting);
        let partition = if self.one_in(2) { format!("PARTITION BY {} ", self.column()) } else { String::new() };
        let keys = keys.join(", ");
        let frame = *pick(
            &mut self.rng,
            &["1 PRECEDING AND CURRENT ROW", "UNBOUNDED PRECEDING AND 1 FOLLOWING", "2 PRECEDING AND 1 PRECEDING"],
        );
        let template = template
            .replace("{over}", &format!("({partition}ORDER BY {keys})"))
            .replace("{ties}", &format!("({partition}ORDER BY {})", self.column()))
            .replace("{free}", &format!("({partition})"))
            .replace("{rows}", &format!("({partition}ORDER BY {keys} ROWS BETWEEN {frame})"));
        let arguments: Vec<Tree> = arguments.iter().map(|arg| self.argument(*arg, depth.min(1))).collect();
        Tree::new(Kind::Expr(ty), &template, arguments)
    }

    /// Returns the name of a column of the innermost FROM whose type has an order everywhere.
    fn column(&mut self) -> String {
        let Some(scope) = self.scopes.last() else { return "1".into() };
        let plain: Vec<&Column> = scope
            .iter()
            .filter(|column| matches!(column.ty, Ty::Bool | Ty::Int4 | Ty::Int2 | Ty::Int8 | Ty::Text | Ty::Date))
            .collect();
        if plain.is_empty() { "1".into() } else { pick(&mut self.rng, &plain).name.clone() }
    }

    fn set_operation(&mut self, types: &[Ty], depth: u32) -> Tree {
        let operator =
            *pick(&mut self.rng, &["UNION", "UNION ALL", "EXCEPT", "INTERSECT", "EXCEPT ALL", "INTERSECT ALL"]);
        let (left, _) = self.query(types, depth.saturating_sub(1), false);
        let (right, _) = self.query(types, depth.saturating_sub(1), false);
        Tree::fixed(&format!("({{}}) {operator} ({{}})"), [left, right])
    }

    fn rows(&mut self, types: &[Ty], depth: u32) -> Tree {
        let count = self.rng.random_range(1..4);
        let rows: Vec<Tree> = (0..count)
            .map(|_| {
                let row: Vec<Tree> = types.iter().map(|ty| self.expr(*ty, depth.min(1))).collect();
                Tree::fixed("({})", [Tree::join(row, ", ")])
            })
            .collect();
        let names: Vec<String> = (1..=types.len()).map(|index| format!("c{index}")).collect();
        let alias = self.alias();
        Tree::fixed(&format!("SELECT * FROM (VALUES {{}}) AS {alias}({})", names.join(", ")), [Tree::join(rows, ", ")])
    }

    fn with(&mut self, types: &[Ty], depth: u32, top: bool) -> (Tree, bool) {
        let (inner, _) = self.query(types, depth.saturating_sub(1), false);
        let name = self.alias();
        let columns: Vec<Column> = types
            .iter()
            .enumerate()
            .map(|(index, ty)| Column { name: format!("{name}.c{}", index + 1), ty: *ty })
            .collect();
        if self.one_in(2) {
            let (outer, ordered) = self.select(types, depth.saturating_sub(1), top, false);
            let template = format!("WITH {name} AS ({{}}) {{}}");
            return (Tree::fixed(&template, [inner, outer]), ordered);
        }
        self.scopes.push(columns);
        let outputs = self.outputs(types, top, |this, ty| this.expr(ty, depth.min(1)));
        let filter = if self.one_in(3) { self.optional(" WHERE {}", Ty::Bool, depth) } else { Tree::empty() };
        self.scopes.pop();
        let template = format!("WITH {name} AS ({{}}) SELECT {{}} FROM {name}{{}}");
        (Tree::fixed(&template, [inner, outputs, filter]), false)
    }

    fn from(&mut self, depth: u32) -> From {
        let base = self.relation(depth);
        if !self.one_in(3) {
            return base;
        }
        let other = self.relation(0);
        let keys =
            if base.keys.is_empty() || other.keys.is_empty() { Vec::new() } else { [base.keys, other.keys].concat() };
        let mut columns = [base.columns, other.columns].concat();
        let kind = *pick(&mut self.rng, &["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN"]);
        let has_id = keys.len() == 2 && keys.iter().all(|key| key.ends_with(".id"));
        if has_id && kind != "CROSS JOIN" && self.one_in(3) {
            // The merged column has a name of its own.
            columns.push(Column { name: "id".into(), ty: Ty::Int4 });
            let sql = Tree::fixed(&format!("{{}} {kind} {{}} USING (id)"), [base.sql, other.sql]);
            return From { sql, columns, keys };
        }
        self.scopes.push(columns.clone());
        // Postgres joins fully by equalities only.
        let sql = match kind {
            "CROSS JOIN" => Tree::fixed("{} CROSS JOIN {}", [base.sql, other.sql]),
            "FULL JOIN" if keys.is_empty() => Tree::fixed("{} CROSS JOIN {}", [base.sql, other.sql]),
            "FULL JOIN" => {
                let on = format!("{{}} FULL JOIN {{}} ON {} = {}", keys[0], keys[keys.len() - 1]);
                Tree::fixed(&on, [base.sql, other.sql])
            }
            _ => {
                let on = self.expr(Ty::Bool, depth.min(1));
                Tree::fixed(&format!("{{}} {kind} {{}} ON {{}}"), [base.sql, other.sql, on])
            }
        };
        self.scopes.pop();
        From { sql, columns, keys }
    }

    fn relation(&mut self, depth: u32) -> From {
        let alias = self.alias();
        let named = |name: &str, ty: Ty| Column { name: format!("{alias}.{name}"), ty };
        match self.rng.random_range(0..if depth == 0 { 7 } else { 10 }) {
            0..4 => {
                let arrays = [Ty::Array(&Ty::Int4), Ty::Array(&Ty::Text)];
                let mut columns: Vec<Column> =
                    PLAIN.into_iter().chain(arrays).map(|ty| named(column_of(ty), ty)).collect();
                columns.push(named("id", Ty::Int4));
                From { sql: Tree::sql(format!("d1 AS {alias}")), columns, keys: vec![format!("{alias}.id")] }
            }
            4 | 5 => {
                let columns = vec![
                    named("id", Ty::Int4),
                    named("k", Ty::Int4),
                    named("s", Ty::Text),
                    named("x", Ty::Float8),
                    named("b", Ty::Bool),
                ];
                From { sql: Tree::sql(format!("d2 {alias}")), columns, keys: vec![format!("{alias}.id")] }
            }
            6 => match self.rng.random_range(0..3) {
                0 => {
                    let columns = vec![named("id", Ty::Int4), named("s", Ty::Text)];
                    From { sql: Tree::sql(format!("d0 {alias}")), columns, keys: vec![format!("{alias}.id")] }
                }
                1 => {
                    // Its numbers are whole, of one type here and of another there.
                    let end = self.rng.random_range(0..6);
                    let sql = format!("(SELECT g.id::int AS id FROM generate_series(1, {end}) AS g(id)) AS {alias}");
                    From {
                        sql: Tree::sql(sql),
                        columns: vec![named("id", Ty::Int4)],
                        keys: vec![format!("{alias}.id")],
                    }
                }
                _ => {
                    let ty = if self.one_in(2) { Ty::Int4 } else { Ty::Text };
                    let array = self.leaf_constant(ty.array());
                    let sql = Tree::fixed(&format!("unnest({{}}) AS {alias}(v)"), [array]);
                    From { sql, columns: vec![named("v", ty)], keys: Vec::new() }
                }
            },
            7 if self.one_in(3) => {
                // The columns of `*` by their places: the merged one first.
                let (one, two) = *pick(&mut self.rng, &[("d2", "d0"), ("d0", "d2")]);
                let kind = *pick(&mut self.rng, &["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
                let of = |table| match table {
                    "d0" => vec![Ty::Text],
                    _ => vec![Ty::Int4, Ty::Text, Ty::Float8, Ty::Bool],
                };
                let types = [vec![Ty::Int4], of(one), of(two)].concat();
                let names: Vec<String> = (1..=types.len()).map(|number| format!("w{number}")).collect();
                let sql = format!("(SELECT * FROM {one} {kind} {two} USING (id)) AS {alias}({})", names.join(", "));
                let columns = names.iter().zip(types).map(|(name, ty)| named(name, ty)).collect();
                From { sql: Tree::sql(sql), columns, keys: vec![format!("{alias}.w1")] }
            }
            _ => {
                let count = self.rng.random_range(1..3);
                let types: Vec<Ty> = (0..count).map(|_| any_type(&mut self.rng)).collect();
                // Nothing of the FROM around it is visible inside.
                let floor = std::mem::replace(&mut self.floor, self.scopes.len());
                let (query, _) = self.query(&types, depth - 1, false);
                self.floor = floor;
                let columns =
                    types.iter().enumerate().map(|(index, ty)| named(&format!("c{}", index + 1), *ty)).collect();
                From { sql: Tree::fixed(&format!("({{}}) AS {alias}"), [query]), columns, keys: Vec::new() }
            }
        }
    }

    /// Returns an expression of a type.
    pub fn expr(&mut self, ty: Ty, depth: u32) -> Tree {
        if depth == 0 {
            return self.leaf(ty);
        }
        let below = depth - 1;
        match self.rng.random_range(0..100) {
            0..18 => self.leaf(ty),
            18..26 => self.conditional(ty, below),
            26..32 => match ty {
                Ty::Array(item) if self.one_in(2) => self.array_subquery(*item, below),
                _ => self.scalar_subquery(ty, below),
            },
            32..60 if ty == Ty::Bool => self.predicate(below),
            _ => {
                let rules = rules(ty);
                if rules.is_empty() {
                    return self.leaf(ty);
                }
                let (template, arguments): Rule = *pick(&mut self.rng, rules);
                let arguments: Vec<Tree> = arguments.iter().map(|arg| self.argument(*arg, below)).collect();
                Tree::new(Kind::Expr(ty), template, arguments)
            }
        }
    }

    fn conditional(&mut self, ty: Ty, depth: u32) -> Tree {
        let (template, types): (&str, &[Ty]) = match self.rng.random_range(0..8) {
            0 | 1 => ("CASE WHEN {} THEN {} ELSE {} END", &[Ty::Bool, ty, ty]),
            2 => ("CASE {} WHEN {} THEN {} END", &[Ty::Int4, Ty::Int4, ty]),
            3 | 4 => ("coalesce({}, {})", &[ty, ty]),
            5 => ("nullif({}, {})", &[ty, ty]),
            6 => ("greatest({}, {})", &[ty, ty]),
            _ => ("least({}, {}, NULL)", &[ty, ty]),
        };
        let arguments: Vec<Tree> = types.iter().map(|ty| self.expr(*ty, depth)).collect();
        Tree::new(Kind::Expr(ty), template, arguments)
    }

    fn scalar_subquery(&mut self, ty: Ty, depth: u32) -> Tree {
        if self.one_in(4) {
            let expr = self.expr(ty, depth);
            return Tree::new(Kind::Expr(ty), "(SELECT {})", [expr]);
        }
        let from = self.relation(0);
        self.scopes.push(from.columns);
        let filter = self.filter(&from.keys, depth);
        let key = from.keys.first().cloned();
        let tree = match (key, self.rng.random_range(0..4)) {
            (Some(key), 0..2) => {
                let expr = self.expr(ty, depth);
                let template = format!("(SELECT {{}} FROM {{}}{{}} ORDER BY {key} LIMIT 1)");
                Tree::new(Kind::Expr(ty), &template, [expr, from.sql, filter])
            }
            // One row, none, or an error.
            (Some(key), 2) => {
                let (expr, other) = (self.expr(ty, depth), self.expr(Ty::Int4, 1));
                let template = format!("(SELECT {{}} FROM {{}} WHERE {key} = {{}})");
                Tree::new(Kind::Expr(ty), &template, [expr, from.sql, other])
            }
            _ => {
                let (aggregate, having) = self.only_row(ty, &from.keys, depth);
                Tree::new(Kind::Expr(ty), "(SELECT {} FROM {}{}{})", [aggregate, from.sql, filter, having])
            }
        };
        self.scopes.pop();
        tree
    }

    /// Returns the filter of a subquery, or none.
    fn filter(&mut self, keys: &[String], depth: u32) -> Tree {
        match (keys.first(), self.rng.random_range(0..4)) {
            (Some(key), 0) => {
                let operator = *pick(&mut self.rng, &["=", "=", "=", ">", "<=", "<>"]);
                let other = self.expr(Ty::Int4, 1);
                Tree::new(Kind::Optional, &format!(" WHERE {key} {operator} {{}}"), [other])
            }
            (_, 1 | 2) => self.optional(" WHERE {}", Ty::Bool, depth),
            _ => Tree::empty(),
        }
    }

    /// Returns an aggregate of all rows of a subquery, and its HAVING.
    fn only_row(&mut self, ty: Ty, keys: &[String], depth: u32) -> (Tree, Tree) {
        // One of columns of the query around it would be an aggregate of that one.
        let floor = std::mem::replace(&mut self.floor, self.scopes.len() - 1);
        let aggregate = self.aggregate(ty, keys, depth);
        self.floor = floor;
        let having = match self.one_in(4) {
            true => {
                let condition = *pick(&mut self.rng, &["count(*) = 0", "count(*) > 0", "count(*) < 3", "NULL"]);
                Tree::new(Kind::Optional, &format!(" HAVING {condition}"), [])
            }
            false => Tree::empty(),
        };
        (aggregate, having)
    }

    /// Returns what a subquery gives of its rows, and its HAVING.
    fn output(&mut self, ty: Ty, keys: &[String], depth: u32) -> (Tree, Tree) {
        match self.rng.random_range(0..6) {
            0 => self.only_row(ty, keys, depth),
            1 => (self.window(ty, keys, depth), Tree::empty()),
            _ => (self.expr(ty, depth), Tree::empty()),
        }
    }

    /// Returns the array of the rows of a query.
    fn array_subquery(&mut self, item: Ty, depth: u32) -> Tree {
        let from = self.relation(0);
        self.scopes.push(from.columns);
        let filter = if self.one_in(2) { self.optional(" WHERE {}", Ty::Bool, depth) } else { Tree::empty() };
        let expr = self.expr(item, depth);
        self.scopes.pop();
        let order =
            if from.keys.is_empty() { " ORDER BY 1".into() } else { format!(" ORDER BY {}", from.keys.join(", ")) };
        let limit = if self.one_in(4) { " LIMIT 2" } else { "" };
        let template = format!("ARRAY(SELECT {{}} FROM {{}}{{}}{order}{limit})");
        Tree::new(Kind::Expr(item.array()), &template, [expr, from.sql, filter])
    }

    fn predicate(&mut self, depth: u32) -> Tree {
        let ty = if self.one_in(3) { any_type(&mut self.rng) } else { *pick(&mut self.rng, &[Ty::Int4, Ty::Text]) };
        let kind = Kind::Expr(Ty::Bool);
        match self.rng.random_range(0..12) {
            0..4 => {
                let operator = *pick(
                    &mut self.rng,
                    &["=", "<>", "!=", "<", "<=", ">", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"],
                );
                let (left, right) = (self.expr(ty, depth), self.expr(ty, depth));
                Tree::new(kind, &format!("({{}} {operator} {{}})"), [left, right])
            }
            4 => {
                let expr = self.expr(ty, depth);
                let template = if self.one_in(2) { "({} IS NULL)" } else { "({} IS NOT NULL)" };
                Tree::new(kind, template, [expr])
            }
            5 | 6 => {
                let not = if self.one_in(2) { "NOT " } else { "" };
                let count = self.rng.random_range(1..4);
                let items: Vec<Tree> = (0..count).map(|_| self.expr(ty, 0)).collect();
                let spec = self.expr(ty, depth);
                Tree::new(kind, &format!("({{}} {not}IN ({{}}))"), [spec, Tree::join(items, ", ")])
            }
            7..10 => {
                let spec = self.expr(ty, depth);
                let from = self.relation(0);
                self.scopes.push(from.columns);
                let (output, having) = self.output(ty, &from.keys, depth);
                let filter = self.filter(&from.keys, depth);
                self.scopes.pop();
                let quantifier = *pick(&mut self.rng, &["IN", "NOT IN", "IN", "NOT IN", "= ANY", "<> ALL", "> ALL"]);
                let template = format!("({{}} {quantifier} (SELECT {{}} FROM {{}}{{}}{{}}))");
                Tree::new(kind, &template, [spec, output, from.sql, filter, having])
            }
            _ => {
                let from = self.relation(0);
                self.scopes.push(from.columns);
                let filter = self.filter(&from.keys, depth);
                let not = if self.one_in(2) { "NOT " } else { "" };
                let tree = match self.rng.random_range(0..4) {
                    0 => {
                        let (aggregate, having) = self.only_row(ty, &from.keys, depth);
                        let template = format!("{not}EXISTS (SELECT {{}} FROM {{}}{{}}{{}})");
                        Tree::new(kind, &template, [aggregate, from.sql, filter, having])
                    }
                    1 => Tree::new(kind, &format!("{not}EXISTS (SELECT * FROM {{}}{{}})"), [from.sql, filter]),
                    _ => Tree::new(kind, &format!("{not}EXISTS (SELECT 1 FROM {{}}{{}})"), [from.sql, filter]),
                };
                self.scopes.pop();
                tree
            }
        }
    }

    fn argument(&mut self, arg: Arg, depth: u32) -> Tree {
        let text = |text: String| Value { ty: Ty::Text, datum: Datum::Text(text) };
        match arg {
            Arg::Of(ty) => self.expr(ty, depth),
            Arg::Small => self.small(),
            Arg::Like => {
                let patterns =
                    ["%", "_", "a%", "%a", "%'%", "%\\\\%", "_b%", "", "%!%%", "a", "%{%", "%\u{301}", "\\%", "A%"];
                let pattern = text((*pick(&mut self.rng, &patterns)).into());
                self.leaf_value(pattern)
            }
            Arg::Regex => {
                let patterns =
                    ["a", "^a", "[0-9]+", "a|b", "\\d", ".b?", "(a)(b)?", "'", "[[:alpha:]]", "^$", "\\s+", "a{1,2}"];
                let pattern = text((*pick(&mut self.rng, &patterns)).into());
                self.leaf_value(pattern)
            }
            Arg::Similar => {
                let patterns = ["%", "a%", "(a|b)%", "_", "%[0-9]%", "a+", "", "%(a|B)", "[^a]%", "%.%", "a", "_?"];
                let pattern = text((*pick(&mut self.rng, &patterns)).into());
                self.leaf_value(pattern)
            }
            Arg::Spelled(ty) => {
                let datum = datum(&mut self.rng, ty);
                let spelled = Value { ty, datum }.text().unwrap_or_default();
                let spelled = match self.rng.random_range(0..8) {
                    0 => format!(" {spelled} "),
                    1 => spelled.to_uppercase(),
                    _ => spelled,
                };
                self.leaf_value(text(spelled))
            }
        }
    }

    fn small(&mut self) -> Tree {
        let number = *pick(&mut self.rng, &[-2, -1, 0, 1, 1, 2, 2, 3, 4, 5, 8]);
        self.leaf_value(Value { ty: Ty::Int4, datum: Datum::Int(number) })
    }

    fn leaf(&mut self, ty: Ty) -> Tree {
        let visible: Vec<&Column> = self.scopes[self.floor.min(self.scopes.len())..]
            .iter()
            .flatten()
            .filter(|column| column.ty == ty)
            .collect();
        if !visible.is_empty() && self.rng.random_ratio(3, 5) {
            return Tree::new(Kind::Expr(ty), &pick(&mut self.rng, &visible).name.clone(), []);
        }
        self.leaf_constant(ty)
    }

    fn leaf_constant(&mut self, ty: Ty) -> Tree {
        let value = value(&mut self.rng, ty);
        self.leaf_value(value)
    }

    fn leaf_value(&mut self, value: Value) -> Tree {
        let style = self.rng.random_range(0..6);
        let inline = self.one_in(3);
        Tree::value(value, style, inline)
    }
}

/// Returns the column of table d1 that has a type.
fn column_of(ty: Ty) -> &'static str {
    match ty {
        Ty::Bool => "b",
        Ty::Int2 => "i2",
        Ty::Int4 => "i4",
        Ty::Int8 => "i8",
        Ty::Float4 => "f4",
        Ty::Float8 => "f8",
        Ty::Numeric => "n",
        Ty::Text => "t",
        Ty::Bytea => "y",
        Ty::Date => "d",
        Ty::Time => "tm",
        Ty::Timestamp => "ts",
        Ty::Timestamptz => "tz",
        Ty::Uuid => "u",
        Ty::Array(Ty::Text) => "at",
        Ty::Array(_) => "ai",
    }
}
