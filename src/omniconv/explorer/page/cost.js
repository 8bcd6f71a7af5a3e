/** Parameters and work of every convolution: what the Python analysis finds, by the same rules. */
import { product } from "./integers.js";
import { countMacs, weightShape } from "./spec.js";
import { shapesOf } from "./chain.js";
import { labelOf } from "./format.js";
import { planSpec } from "./plan.js";

/** @import {Spec} from "./chain.js" */

/**
 * @typedef {object} LayerCost
 * @property {string} name
 * @property {number} weights
 * @property {number} biases
 * @property {number} macs nominal [MAC]
 * @property {number} executed those whose tap lands inside [MAC]
 */

/**
 * What each convolution costs.
 * @param {Spec} spec
 * @param {number[]} shape
 * @returns {LayerCost[]}
 */
export function costOf(spec, shape) {
  const shapes = shapesOf(spec, shape);
  const plans = planSpec(spec, shape);
  return plans.flatMap((plan, index) =>
    plan.parts.flatMap((part) => {
      if (!part.conv) return [];
      const { conv } = part;
      const given = [shape[0], conv.in_channels, ...shapes[index].slice(2)];
      const inside = part.axes.map((axis) => axis.flat().filter((tap) => tap.read >= 0).length);
      return [
        {
          name: labelOf(conv),
          weights: product(weightShape(conv)),
          biases: conv.out_channels,
          macs: countMacs(conv, given),
          executed: shape[0] * product(inside) * part.wide * conv.out_channels,
        },
      ];
    }),
  );
}

/** What a spec costs as a whole; parameters with biases. @param {Spec} spec @param {number[]} shape */
export function sumCost(spec, shape) {
  const layers = costOf(spec, shape);
  return {
    weights: layers.reduce((sum, layer) => sum + layer.weights, 0),
    parameters: layers.reduce((sum, layer) => sum + layer.weights + layer.biases, 0),
    macs: layers.reduce((sum, layer) => sum + layer.macs, 0),
    executed: layers.reduce((sum, layer) => sum + layer.executed, 0),
  };
}
