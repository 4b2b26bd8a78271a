// Add columns up, so that the mean of any stretch costs two look-ups. Knows nothing of what they are.

/** Running sums of columns of equal length, each one longer than its column. */
export class Sums {
  constructor(matrix, numColumns, numRows) {
    this.numRows = numRows;
    this.stride = numRows + 1;
    this.data = new Float64Array(numColumns * this.stride);
    for (let column = 0; column < numColumns; column += 1) {
      let [sum, at] = [0, column * this.stride];
      for (let row = 0; row < numRows; row += 1) {
        sum += matrix[column * numRows + row];
        this.data[(at += 1)] = sum;
      }
    }
  }

  /** The means of `into.length` equal bins over rows `start` to `end` of a column; no bin is narrower than a row. */
  means(column, start, end, into) {
    const [base, step] = [column * this.stride, (end - start) / into.length];
    let from = Math.floor(start);
    for (let bin = 0; bin < into.length; bin += 1) {
      const next = Math.min(this.numRows, Math.floor(start + (bin + 1) * step));
      const to = Math.max(from + 1, next);
      into[bin] = to > this.numRows ? 0 : (this.data[base + to] - this.data[base + from]) / (to - from);
      from = next;
    }
    return into;
  }
}
