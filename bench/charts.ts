// SPDX-License-Identifier: Apache-2.0
/** Plots of the report: rows of figures in, SVG out. The looks of all of them are here. */
import { parse, View } from "vega";
import { compile, type TopLevelSpec } from "vega-lite";

/** One bar or point. */
export interface Row {
  /** What it is of: a place on the axis. */
  readonly x: string;
  readonly y: number;
  /** Who it is of: a colour. */
  readonly who: string;
  /** A plot of its own beside the others. */
  readonly group?: string;
}

export interface Chart {
  readonly title: string;
  readonly xTitle: string;
  readonly yTitle: string;
  readonly rows: readonly Row[];
  readonly kind: "bars" | "lines";
  readonly logarithmic?: boolean;
  /** A line across at this value: a target, or what the others are compared with. */
  readonly rule?: number;
}

/** Told apart also by who sees no colours: they differ in lightness. */
const COLOURS = ["#0b3954", "#2a7f9e", "#86bbd8", "#c1571f", "#f0a35e", "#7a7a7a"];

/** More names than this on an axis stand aslant. */
const MOST_LEVEL = 6;

/** In the order of their rows: vega would sort 65,536 before 4,096. */
const inOrder = (values: readonly string[]): string[] => [...new Set(values)];

function specOf({ title, xTitle, yTitle, rows, kind, logarithmic, rule }: Chart): TopLevelSpec {
  const whos = inOrder(rows.map(({ who }) => who));
  const groups = inOrder(rows.map(({ group }) => group ?? ""));
  const order = inOrder(rows.map(({ x }) => x));
  const scale = logarithmic ? { type: "log" } : { zero: kind === "bars" };
  const shared = {
    x: {
      field: "x",
      type: "nominal",
      title: xTitle,
      sort: order,
      axis: { labelAngle: order.length > MOST_LEVEL ? -40 : 0, labelLimit: 200 },
    },
    y: { field: "y", type: "quantitative", title: yTitle, scale },
    color: {
      field: "who",
      type: "nominal",
      title: null,
      sort: whos,
      scale: { domain: whos, range: COLOURS },
    },
  };
  const marks =
    kind === "bars"
      ? { mark: { type: "bar" }, encoding: { ...shared, xOffset: { field: "who", sort: whos } } }
      : { mark: { type: "line", point: true }, encoding: shared };
  const across =
    rule === undefined
      ? []
      : [{ mark: { type: "rule", strokeDash: [4, 3], color: "#b00020" }, encoding: { y: { datum: rule } } }];
  const plot = { width: groups.length > 1 ? 260 : 520, height: 240, layer: [marks, ...across] };
  const facet = { field: "group", type: "nominal", title: null, sort: groups };
  const spec = {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    title,
    data: { values: rows.map((row) => ({ group: "", ...row })) },
    background: "white",
    config: { font: "sans-serif" },
    ...(groups.length > 1 ? { facet, columns: 2, spec: plot } : plot),
  };
  return spec as TopLevelSpec;
}

/** The plot as a file's text. */
export async function svgOf(chart: Chart): Promise<string> {
  const view = new View(parse(compile(specOf(chart)).spec), { renderer: "none" });
  try {
    return `${await view.toSVG()}\n`;
  } finally {
    view.finalize();
  }
}
