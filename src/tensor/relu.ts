import { differentiate } from './autograd';
import type { Tensor } from './tensor';

/** `max(x, 0)`. */
export function relu(x: Tensor): Tensor {
  const y = x.device.run1('relu', { x });
  differentiate(y, [x], ({ keep }) => {
    const output = keep(y);
    return (dy, [dx]) => dx!.add(reluBackward(dy, output));
  });
  return y;
}

/** `dy` where the output of a ReLU is positive, 0 elsewhere. */
export function reluBackward(dy: Tensor, y: Tensor): Tensor {
  return dy.device.run1('relu_backward', { dy, y });
}
