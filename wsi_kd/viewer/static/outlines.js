"use strict";
// Annotations and the chosen tile as lines, each on a white one, so that they show on tissue and on any color.

const DEFAULT_COLOR = "#d00000";

function annotationShapes(geojson) {
  return (geojson?.features ?? []).filter((feature) => feature?.geometry).map((feature) => ({
    path: pathOf(feature.geometry),
    name: annotationName(feature),
    color: annotationColor(feature),
  }));
}

function annotationName(feature) {
  const name = feature.properties?.classification?.name ?? feature.properties?.name;
  return typeof name === "string" && name ? name : "without a class";
}

function annotationColor(feature) {
  const color = feature.properties?.classification?.color;
  if (!Array.isArray(color) || color.length !== 3 || !color.every((part) => isNumber(part))) return DEFAULT_COLOR;
  return `rgb(${color.map((part) => Math.min(255, Math.max(0, Math.round(part)))).join(" ")})`;
}

function pathOf(geometry) {
  const path = new Path2D();
  for (const line of linesOf(geometry)) {
    line.points.forEach(([x, y], index) => (index ? path.lineTo(x, y) : path.moveTo(x, y)));
    if (line.closed) path.closePath();
  }
  return path;
}

function linesOf(geometry) {
  const closed = (rings) => rings.map((points) => ({ points, closed: true }));
  switch (geometry.type) {
    case "Polygon": return closed(geometry.coordinates);
    case "MultiPolygon": return geometry.coordinates.flatMap(closed);
    case "LineString": return [{ points: geometry.coordinates, closed: false }];
    case "MultiLineString": return geometry.coordinates.map((points) => ({ points, closed: false }));
    case "GeometryCollection": return geometry.geometries.flatMap(linesOf);
    default: return [];
  }
}

// `view`: left and top in level-0 pixels, scale in canvas pixels a level-0 pixel; `ratio`: canvas pixels a CSS pixel.
function strokeShapes(context, shapes, { view, ratio }) {
  context.setTransform(view.scale, 0, 0, view.scale, -view.left * view.scale, -view.top * view.scale);
  context.lineJoin = "round";
  for (const { path, color } of shapes) {
    for (const [style, width] of [["#ffffff", 4], [color, 2]]) {
      context.strokeStyle = style;
      context.lineWidth = (width * ratio) / view.scale;
      context.stroke(path);
    }
  }
}

function squareShape(x, y, edge) {
  const path = new Path2D();
  path.rect(x, y, edge, edge);
  return { path, color: "#000000" };
}
