# Prints the options with which a session pins its settings, for PGOPTIONS. Reads session-settings and superuser-settings; the variable
# version is the server's, "15.18". In PGOPTIONS, spaces separate and a backslash takes the next character as it is.

# Whether a version is at least another one.
function since(version, least, have, need) {
  split(version, have, ".")
  split(least, need, ".")
  return have[1] + 0 > need[1] + 0 || (have[1] + 0 == need[1] + 0 && have[2] + 0 >= need[2] + 0)
}

/^[ \t]*(#|$)/ { next }
{
  name = value = $0
  sub(/[ \t]*=.*/, "", name)
  sub(/^[^=]*=[ \t]*/, "", value)
  if (match(name, /\([0-9.]+\)/)) {
    if (!since(version, substr(name, RSTART + 1, RLENGTH - 2))) next
    sub(/[ \t]*\(.*/, "", name)
  }
  gsub(/[\\ \t]/, "\\\\&", value)
  printf "%s-c %s=%s", between, name, value
  between = " "
}
