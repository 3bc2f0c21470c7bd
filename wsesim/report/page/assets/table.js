// SortableTable: a table whose columns sort and whose rows a text filters. Its last row sums the rows that are shown.

class SortableTable {
  /** Columns: { key, name, unit, text: a value as text, total: whether to sum, hint }. The first column has names. */
  constructor(columns) {
    this.columns = columns;
    this.rows = [];
    this.filter = "";
    this.key = columns[1].key;
    this.ascending = false;
    this.head = make("thead", {});
    this.body = make("tbody", {});
    this.foot = make("tfoot", {});
    this.element = make("div", { class: "scroll" }, make("table", { class: "sortable" }, this.head, this.body, this.foot));
  }

  /** `note` says what the rows are, after the number that is shown. */
  fill(rows) {
    this.rows = rows;
    this._show();
  }

  setFilter(text) {
    this.filter = text.trim().toLowerCase();
    this._show();
  }

  _sort(column) {
    this.ascending = this.key === column.key ? !this.ascending : !column.number;
    this.key = column.key;
    this._show();
  }

  get shown() {
    const words = this.filter.split(/\s+/).filter(Boolean);
    const kept = this.rows.filter((row) => words.every((word) => row.searched.includes(word)));
    const side = this.ascending ? 1 : -1;
    const order = (a, b) => (a[this.key] < b[this.key] ? -side : a[this.key] > b[this.key] ? side : 0);
    return kept.sort(order);
  }

  _show() {
    const shown = this.shown;
    this.head.replaceChildren(make("tr", {}, this.columns.map((column) => this._heading(column))));
    this.body.replaceChildren(...shown.map((row) => make("tr", this._picking(row), this.columns.map((column, n) =>
      make(n ? "td" : "th", { class: column.number ? "number" : "", scope: n ? null : "row", "data-key": column.key },
        column.cell ? column.cell(row) : this._text(column, row[column.key]))))));
    const totals = this.columns.map((column, n) => make("td", { class: column.number ? "number" : "", "data-key": column.key },
      n === 0 ? `sum of ${count(shown.length)} ${shown.length === 1 ? "row" : "rows"}`
        : column.total ? column.text(sum(shown.map((row) => row[column.key]))) : ""));
    this.foot.replaceChildren(make("tr", {}, totals));
    this.onshown?.(shown.length, this.rows.length);
  }

  /** Rows can be picked, by a click or by the button with their name, if `onpick` is there. */
  _picking(row) {
    if (!this.onpick) return {};
    return { class: row === this.picked ? "picked" : "can-pick", onclick: () => this.pick(row === this.picked ? null : row) };
  }

  pick(row) {
    this.picked = row;
    this._show();
    this.onpick(row);
  }

  /** A number that is 0 is only a dash, so that the others stand out. */
  _text(column, value) {
    if (column.number && !value && column.text) return make("span", { class: "none", title: "0" }, "–");
    return column.text ? column.text(value) : value;
  }

  _heading(column) {
    const sorted = this.key === column.key ? (this.ascending ? "ascending" : "descending") : "none";
    return make("th", { class: column.number ? "number" : "", "aria-sort": sorted, scope: "col" },
      make("button", { type: "button", title: column.hint ?? "", onclick: () => this._sort(column) },
        make("span", {}, column.name), column.unit ? make("small", {}, column.unit) : null));
  }
}
