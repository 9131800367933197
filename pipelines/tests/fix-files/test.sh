sum=$(sh sum.sh 2 3)
if [ "$sum" != 5 ]; then
  echo "2 + 3 = $sum, expected 5"
  exit 1
fi
echo "1 test passed"
