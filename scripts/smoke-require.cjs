// The same package from CommonJS.
const { device, tensor, matmul } = require("throughtime");
const product = matmul(tensor([[1, 2]]), tensor([[3], [4]]));
console.log(JSON.stringify({ product: Array.from(product.dataSync()), ...device.info() }));
