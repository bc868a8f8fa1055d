# The value of a hexadecimal number in capitals.
function number(hex, i, n) {
  for (i = 1; i <= length(hex); i++) n = n * 16 + index("0123456789ABCDEF", substr(hex, i, 1)) - 1
  return n + 0
}
